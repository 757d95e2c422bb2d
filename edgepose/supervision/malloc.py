"""Keeps the resident memory of a process that runs for weeks flat: what is freed goes back to the system."""

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h> of glibc
_ARENAS = 2
_PICTURE_BYTES = 256 * 1024


def tune() -> bool:
    """Tell glibc to give pictures memory of their own and to keep few arenas; False where the C library is another.

    A frame is allocated by the camera's thread and freed by another. Left alone, glibc gives each thread an arena, and after
    the first freed picture takes pictures from these arenas too, which then grow in steps and never shrink. To be called before
    threads are started.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(_M_ARENA_MAX, _ARENAS)) and bool(library.mallopt(_M_MMAP_THRESHOLD, _PICTURE_BYTES))
    except (OSError, AttributeError):
        return False
