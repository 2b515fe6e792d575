"""Landlock: a confined process may read listed files, and may not write, connect, or signal other processes.

All that the kernel's version of Landlock can deny is denied, except where a rule allows it
(docs.kernel.org, userspace-api/landlock).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ingestion.sandbox.libc import call

# The same numbers on all architectures
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_FILE: Final = 1 << 5
_MAKE_SOCK: Final = 1 << 9
_RIGHTS_OF_VERSION: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of rights over files; later versions have those of the last one."""
_TCP: Final = 0b11  # bind, connect; from version 4
_SCOPES: Final = 0b11  # abstract sockets, signals; from version 6


@dataclass(frozen=True, slots=True)
class PathRule:
    """An open path, and the rights beneath it."""

    descriptor: int
    rights: int


def version() -> int:
    """The version in this kernel, 0 where there is none or it is off."""
    if sys.platform != "linux":
        return 0
    try:
        return call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def path_rule(path: str, *, execute: bool = False) -> PathRule | None:
    """Allows reading a file or a whole folder, and executing it on demand. None where `path` does not exist."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    return PathRule(descriptor, _READ_FILE | (_READ_DIR if is_folder else 0) | (_EXECUTE if execute else 0))


def write_rule(path: str, abi: int) -> PathRule | None:
    """Allows all but executing below a folder; reading and writing a file. None where `path` does not exist."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    rights = (1 << _rights(abi)) - 1 & ~_EXECUTE
    return PathRule(descriptor, rights if stat.S_ISDIR(os.fstat(descriptor).st_mode) else _READ_FILE | _WRITE_FILE)


def socket_rule(path: str) -> PathRule | None:
    """Allows making and removing sockets in a folder, and thereby removing its files. None where it does not exist."""
    try:
        return PathRule(os.open(path, os.O_PATH | os.O_CLOEXEC), _MAKE_SOCK | _REMOVE_FILE)
    except OSError:
        return None


def ruleset(abi: int, rules: Iterable[PathRule]) -> int:
    """A descriptor for `restrict`: it allows only what `rules` allow. Raises OSError."""
    rights = (1 << _rights(abi)) - 1
    attributes = struct.pack("=QQQ", rights, _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    descriptor = call(_CREATE_RULESET, ctypes.c_char_p(attributes), size, 0)
    try:
        for one in rules:
            rule = struct.pack("=Qi", one.rights, one.descriptor)
            call(_ADD_RULE, descriptor, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _rights(abi: int) -> int:
    return _RIGHTS_OF_VERSION[min(abi, max(_RIGHTS_OF_VERSION))]


def restrict(descriptor: int) -> None:
    """Confine this process by a ruleset, permanently. Needs no_new_privs. Raises OSError."""
    call(_RESTRICT_SELF, descriptor, 0)
