"""Landlock: the files that a confined process may read, and nothing to write, connect to or signal outside.

Everything of the kernel's version is denied but what a rule allows (docs.kernel.org, userspace-api/landlock).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from ingestion.sandbox.libc import call

# The same numbers on all architectures
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE: Final = 1 << 0
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_RIGHTS_OF_VERSION: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of rights over files; later versions have those of the last one."""
_TCP: Final = 0b11  # bind, connect; from version 4
_SCOPES: Final = 0b11  # abstract sockets, signals; from version 6


def version() -> int:
    """What this kernel has, 0 where it has none or it is switched off."""
    if sys.platform != "linux":
        return 0
    try:
        return call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def apply(abi: int, *, readable: Iterable[str], executable: Iterable[str]) -> None:
    """Confine this process for good: files and folders of `readable` to read, files of `executable` to execute.

    What does not exist is left out. Needs no_new_privs. Raises OSError.
    """
    rights = (1 << _RIGHTS_OF_VERSION[min(abi, max(_RIGHTS_OF_VERSION))]) - 1
    attributes = struct.pack("=QQQ", rights, _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = call(_CREATE_RULESET, ctypes.c_char_p(attributes), size, 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE)
        for path in executable:
            _allow(ruleset, path, _READ_FILE | _EXECUTE)
        call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if os.path.isdir(path):  # noqa: PTH112 - a string, here and in all of the child
                rights |= _READ_DIR
            call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(struct.pack("=Qi", rights, file)), 0)
        finally:
            os.close(file)
