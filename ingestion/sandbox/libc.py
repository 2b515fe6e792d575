"""System calls for which Python has no function."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc_with_gil: Final = ctypes.PyDLL(None, use_errno=True)
"""The interpreter's lock is kept during a call, so a forked process has it."""


def call(number: int, *arguments: Any) -> int:
    """Raises OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_argument, arguments)))


def prctl(option: int, *arguments: int) -> int:
    """Raises OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _checked(_libc.prctl(option, *(ctypes.c_ulong(one) for one in padded)))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. `parent` is the parent's id, as this process sees it.

    Ends this process at once if the parent has ended already. Does nothing on systems other than Linux.
    """
    if sys.platform != "linux":
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def unshare(flags: int) -> None:
    """Raises OSError."""
    _checked(_libc.unshare(flags))


def fork() -> int:
    """As os.fork, for a process with one thread, without the hooks that Python modules have registered.

    The hooks renew locks, which no other thread can hold here, and seed `random` again. They cost a child 200 page
    faults, a tenth of what it takes to read an ordinary PDF. Raises OSError.
    """
    return _checked(_libc_with_gil.fork())


def _argument(value: Any) -> Any:
    return ctypes.c_long(value) if isinstance(value, int) else value


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
