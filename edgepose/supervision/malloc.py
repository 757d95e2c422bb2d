"""Settings of glibc's allocator that keep the resident memory of a long-running process flat: freed memory returns to the system."""

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h> of glibc
_ARENAS = 2
_IMAGE_BYTES = 256 * 1024


def tune() -> bool:
    """Make glibc allocate images outside its arenas, and use few arenas; return False with another C library.

    A frame is allocated by the camera's thread and freed by another. By default, glibc gives each thread an arena,
    and after the first freed image allocates images from these arenas too, which then grow in steps and never shrink. To be called before
    threads are started.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(_M_ARENA_MAX, _ARENAS)) and bool(library.mallopt(_M_MMAP_THRESHOLD, _IMAGE_BYTES))
    except (OSError, AttributeError):
        return False
