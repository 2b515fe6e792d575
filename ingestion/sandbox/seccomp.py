"""The system calls that a confined process may make, as a seccomp filter.

The filter lists what is allowed, not what is forbidden: a system call that a later kernel adds is refused until it is
listed. Refused calls fail with ENOSYS; the C library then behaves as on an older kernel.
No call on the list makes a process, a thread, a socket, a file or a mount, changes a limit or a right, reaches another
process, or opens a file for writing.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from functools import lru_cache
from typing import Final

from ingestion.sandbox.libc import call

_ALLOWED: Final = {
    # name: (x86_64, aarch64), None where the architecture has no such call
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "write": (1, 64),
    "writev": (20, 66),
    "lseek": (8, 62),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "fstat": (5, 80),
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "fadvise64": (221, 223),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "membarrier": (324, 283),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "arch_prctl": (158, None),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigpending": (127, 136),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getrandom": (318, 278),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Calls that are allowed with some arguments: (x86_64, aarch64)
_OPEN: Final = (2, None)
_OPENAT: Final = (257, 56)
_FCNTL: Final = (72, 25)
_IOCTL: Final = (16, 29)
_PRCTL: Final = (157, 167)
_PRLIMIT: Final = (302, 261)
_KILL: Final = (62, 129)
_TGKILL: Final = (234, 131)
_EXECVE: Final = (59, 221)
_SECCOMP: Final = (317, 277)

_OPEN_TO_WRITE: Final = 0o3 | 0o100 | 0o1000 | 0o20000000  # O_ACCMODE, O_CREAT, O_TRUNC, O_TMPFILE
_FCNTL_COMMANDS: Final = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_IOCTL_REQUESTS: Final = (0x5401, 0x541B, 0x5421, 0x5451)  # TCGETS, FIONREAD, FIONBIO, FIOCLEX
_PRCTL_OPTIONS: Final = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA: malloc names its memory

_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_...

# linux/bpf_common.h, linux/seccomp.h
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_BITS: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_NUMBER_AT: Final = 0
_ARCH_AT: Final = 4
_ARGUMENTS_AT: Final = 16

_SET_MODE_FILTER: Final = 1
_GET_ACTION_AVAIL: Final = 2

_INSTRUCTION: Final = struct.Struct("=HBBI")
_PID: Final = struct.Struct("=I")
_ANY_PID: Final = 0xFFFF_FFFE
"""No constant of the filter, and above every process id."""

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def is_available() -> bool:
    """False where the kernel or the architecture has no filter of this kind."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    column, _ = _ARCHITECTURES[platform.machine()]
    action = ctypes.c_uint32(_KILL_PROCESS)
    try:
        call(_SECCOMP[column] or 0, _GET_ACTION_AVAIL, 0, ctypes.byref(action))
    except OSError:
        return False
    return True


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))  # struct sock_fprog


@lru_cache(maxsize=2)
def _template(*, may_execute: bool) -> tuple[bytes, tuple[int, ...]]:
    """The filter's code with _ANY_PID in place of the process id, and the offsets at which that stands."""
    instructions = build(platform.machine(), _ANY_PID, may_execute=may_execute)
    code = b"".join(_INSTRUCTION.pack(*one) for one in instructions)
    size, last = _INSTRUCTION.size, _INSTRUCTION.size - _PID.size
    return code, tuple(size * index + last for index, one in enumerate(instructions) if one[3] == _ANY_PID)


def prepare() -> None:
    """Compile the filters. A launcher does so once, so that its children need not."""
    for may_execute in (False, True):
        _template(may_execute=may_execute)


def apply(pid: int, *, may_execute: bool) -> None:
    """Filter the calls of this process, whose id is `pid`, permanently. Needs no_new_privs. Raises OSError."""
    column, _ = _ARCHITECTURES[platform.machine()]
    template, offsets = _template(may_execute=may_execute)
    code = bytearray(template)
    for offset in offsets:
        _PID.pack_into(code, offset, pid)
    program = _Program(len(code) // _INSTRUCTION.size, bytes(code))
    call(_SECCOMP[column] or 0, _SET_MODE_FILTER, 0, ctypes.byref(program))


def build(machine: str, pid: int, *, may_execute: bool) -> list[Instruction]:
    """The filter for the process `pid`, which may signal only itself."""
    column, architecture = _ARCHITECTURES[machine]
    filter_: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]

    def rule(numbers: tuple[int | None, int | None], block: list[Instruction]) -> None:
        if (number := numbers[column]) is not None:
            filter_.append((_JUMP_EQUAL, 0, len(block), number))
            filter_.extend(block)

    for numbers in _ALLOWED.values():
        rule(numbers, [(_RETURN, 0, 0, _ALLOW)])
    rule(_OPENAT, _without_bits(2, _OPEN_TO_WRITE))
    rule(_OPEN, _without_bits(1, _OPEN_TO_WRITE))
    rule(_FCNTL, _one_of(1, _FCNTL_COMMANDS))
    rule(_IOCTL, _one_of(1, _IOCTL_REQUESTS))
    rule(_PRCTL, _one_of(0, _PRCTL_OPTIONS))
    rule(_PRLIMIT, _reads_own_limit(pid))
    rule(_KILL, _one_of(0, (pid,)))
    rule(_TGKILL, _one_of(0, (pid,)))
    if may_execute:
        rule(_EXECVE, [(_RETURN, 0, 0, _ALLOW)])
    filter_.append((_RETURN, 0, 0, _ERRNO | errno.ENOSYS))
    return filter_


def _load_argument(index: int, *, high: bool = False) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index + (4 if high else 0))  # both architectures are little-endian


def _one_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    """Argument `index` is one of `values`. The kernel reads 32 bits of each of these arguments."""
    block = [_load_argument(index)]
    for value in values:
        block += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*block, (_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def _without_bits(index: int, mask: int) -> list[Instruction]:
    return [
        _load_argument(index),
        (_JUMP_BITS, 0, 1, mask),
        (_RETURN, 0, 0, _ERRNO | errno.EACCES),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _reads_own_limit(pid: int) -> list[Instruction]:
    """prlimit64(0 or `pid`, any, NULL, any)."""
    return [
        _load_argument(2),
        (_JUMP_EQUAL, 0, 6, 0),
        _load_argument(2, high=True),
        (_JUMP_EQUAL, 0, 4, 0),
        _load_argument(0),
        (_JUMP_EQUAL, 1, 0, 0),
        (_JUMP_EQUAL, 0, 1, pid),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
