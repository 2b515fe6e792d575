"""How the C library hands out a worker's memory."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8
"""mallopt(3), <malloc.h> of glibc."""

_ARENAS: Final = 2


def configure_malloc() -> None:
    """Let all threads of this process share two arenas. No effect where the C library is not glibc.

    By default glibc gives a thread that finds the others busy an arena of its own, up to eight a core, and each keeps
    tens of megabytes of what was freed in it. As windows of pages wander from thread to thread, a worker of thirty
    threads would grow for hundreds of pages. To be called before threads are started.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
