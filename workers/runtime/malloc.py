"""glibc's malloc, set for a worker: windows of pages that move from thread to thread."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
"""Parameters of mallopt(3), from glibc's <malloc.h>."""

_ARENAS: Final = 2


def configure_malloc() -> None:
    """Let all threads of this process share two arenas. No effect where the C library is not glibc.

    By default glibc gives a thread that finds the other arenas busy a new one, up to eight for each core, and each
    keeps tens of megabytes of freed memory. Windows of pages move from thread to thread, so a worker of thirty threads
    would grow for hundreds of pages. Call this before threads are started.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
