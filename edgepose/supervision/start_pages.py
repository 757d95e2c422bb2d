"""Memory that only the start of a long-running process needs, returned to the system."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

_MAPS, _SMAPS = Path("/proc/self/maps"), Path("/proc/self/smaps")
_MADV_DONTNEED = 4  # <sys/mman.h> of Linux

# Code and constants that are as their file has them, proc_pid_smaps(5): neither a linker nor a debugger has changed them.
_UNCHANGED = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) r-[x-]p [0-9a-f]+ \S+ [1-9]\d* +/[^\n]*[^)\n]\n"  # a deleted file ends in a parenthesis
    rb"(?:[A-Z][^\n]*\n)*?Rss: +(\d+) kB\n(?:[A-Z][^\n]*\n)*?Anonymous: +0 kB\n",
    re.MULTILINE,
)


def release_start_pages() -> int:
    """Return what was freed, and the pages of code and constants, to the system; return how many bytes of the latter.

    Libraries of this size are linked and initialized by code that never runs again, and the kernel maps 64 KiB around each page that is
    used. What is still used comes back from the file, which the system holds in memory. Does nothing with another kernel or C library.
    """
    released = 0
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        # Under qemu-user, `maps` tells of this process and `smaps` of the emulator: other things lie at its addresses.
        own = {line.split(b" ", 1)[0] for line in _MAPS.read_bytes().splitlines()}
        for low, high, resident_kb in _UNCHANGED.findall(_SMAPS.read_bytes()):
            start = int(low, 16)
            if b"%b-%b" % (low, high) in own and library.madvise(start, int(high, 16) - start, _MADV_DONTNEED) == 0:
                released += int(resident_kb) * 1024
        library.malloc_trim(0)
    return released
