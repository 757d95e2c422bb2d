"""Names of threads as the kernel shows them (`top -H`, /proc): Python keeps its own names to itself before 3.14."""

import ctypes

_PR_SET_NAME = 15  # <linux/prctl.h>


def show_thread_as(name: str) -> None:
    """Give the calling thread a name of up to 15 bytes; another system than Linux shows none."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    except (OSError, AttributeError):
        return
