"""A user namespace without network: no rights outside it, and no interface but an idle loopback."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from contextlib import suppress
from typing import Final

from ingestion.sandbox.libc import call, prctl, unshare

_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3: Final = 0x20080522
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_NO_ROOT_LOCKED: Final = 0b1111  # NOROOT, NO_SETUID_FIXUP, and both locked: to execute a file gives no rights
_MOST_CAPABILITIES: Final = 64


def enter() -> bool:
    """Move this process, which has one thread, into new namespaces. False where the system forbids it."""
    if sys.platform != "linux":
        return False
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(_CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        unshare(_CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS)
    except OSError:
        return False
    return True


def drop_capabilities() -> None:
    """Drop all capabilities, also those that executing a file would give."""
    if sys.platform != "linux":
        return
    with suppress(OSError):  # without privileges there is nothing to lock
        prctl(_PR_SET_SECUREBITS, _NO_ROOT_LOCKED)
    for capability in range(_MOST_CAPABILITIES):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:  # past the last capability, or not permitted
            break
    number = _CAPSET.get(os.uname().machine)
    if number is not None:
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        call(number, ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)))


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
