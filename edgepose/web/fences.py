"""Fences around a process that reads a stranger's file: no network, no other files, bounded memory. Set once, never taken down.

seccomp (Linux 3.17) refuses sockets, new programs and all other ways out; without it no job runs. Landlock (Linux 5.13) limits which files
can be opened, where the kernel has it. Both hold for the thread that sets them and all that it starts, so they come before any library
starts threads. Nothing here needs privileges.
"""

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

from edgepose.errors import UnavailableError

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38  # <linux/prctl.h>
_SECCOMP_MODE_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # <linux/bpf_common.h>
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # struct seccomp_data
_X32 = 0x40000000  # numbers of another calling convention on x86_64, which would pass by the list

# Numbers of system calls: asm/unistd_64.h and asm-generic/unistd.h.
_X86_64 = {
    "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53, "execve": 59, "ptrace": 101, "mount": 165,
    "unshare": 272, "accept4": 288, "perf_event_open": 298, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321,
    "execveat": 322, "userfaultfd": 323, "keyctl": 250, "add_key": 248, "io_uring_setup": 425, "pidfd_getfd": 438,
}  # fmt: skip
_AARCH64 = {
    "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "ptrace": 117, "mount": 40, "unshare": 97,
    "execve": 221, "accept4": 242, "perf_event_open": 241, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280,
    "execveat": 281, "userfaultfd": 282, "keyctl": 219, "add_key": 217, "io_uring_setup": 425, "pidfd_getfd": 438,
}  # fmt: skip
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # of Landlock, the same on all machines
_RULESET_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15  # from versions 2, 3 and 5
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_READ = _EXECUTE | _READ_FILE | _READ_DIR


def limit_resources(memory_mb: int, cpu_s: float, file_mb: int) -> None:
    """Bound the memory, processor time and size of written files of this process; nothing of it is dumped."""
    for kind, limit in (
        (resource.RLIMIT_DATA, memory_mb * 1_000_000),
        (resource.RLIMIT_CPU, int(cpu_s)),
        (resource.RLIMIT_FSIZE, file_mb * 1_000_000),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (most, most))


def refuse_network() -> None:
    """Refuse this thread, and all that it starts, every socket, every other program, and the calls that lead around that.

    Raises:
        UnavailableError: this machine cannot do that.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise UnavailableError(f"jobs cannot be fenced in on {machine}; expected x86_64 or aarch64")
    architecture, calls = _MACHINES[machine]
    numbers = sorted(calls.values())
    # Each test jumps over the rest of the list to the refusal, which is the last instruction.
    program = [_instruction(_LOAD, _ARCHITECTURE_AT), _instruction(_EQUAL, architecture, 0, len(numbers) + 3)]
    program += [_instruction(_LOAD, _NUMBER_AT), _instruction(_AT_LEAST, _X32, len(numbers) + 1, 0)]
    program += [_instruction(_EQUAL, number, len(numbers) - place, 0) for place, number in enumerate(numbers)]
    program += [_instruction(_RETURN, _ALLOW), _instruction(_RETURN, _REFUSE)]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    library = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0)):
        if library.prctl(*(ctypes.c_ulong(argument) for argument in arguments)):
            raise UnavailableError(f"jobs cannot be fenced in: {os.strerror(ctypes.get_errno())}; expected a kernel with seccomp")


def allow_files(readable: Iterable[str | Path], writable: Iterable[str | Path], descriptors: Iterable[int]) -> bool:
    """Let this thread, and all that it starts, open files below these paths only, and what the descriptors refer to.

    Paths that do not exist are left out. To be called after `refuse_network`, which takes the possibility of privileges away.

    Returns:
        False where the kernel has no Landlock, so that nothing changes.
    """
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    if version < 1:
        return False
    handled = (1 << 13) - 1
    handled |= sum(right for right, since in ((_REFER, 2), (_TRUNCATE, 3), (_IOCTL_DEVICE, 5)) if version >= since)
    attributes = ctypes.create_string_buffer(struct.pack("Q", handled), 8)
    ruleset = library.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    try:
        for rights, places in ((_READ, readable), (handled, writable)):
            for place in places:
                try:
                    descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
                except OSError:
                    continue
                try:
                    _add_rule(library, ruleset, descriptor, rights & handled, is_folder=os.path.isdir(place))
                finally:
                    os.close(descriptor)
        for descriptor in descriptors:
            _add_rule(library, ruleset, descriptor, _READ_FILE, is_folder=False)
        return not library.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _add_rule(library: ctypes.CDLL, ruleset: int, descriptor: int, rights: int, *, is_folder: bool) -> None:
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights if is_folder else rights & _OF_FILES, descriptor))
    library.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
