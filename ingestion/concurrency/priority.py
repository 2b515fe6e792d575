"""The operating system's priority of threads."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Final

NICE: Final = 10
"""The event loop's thread, at 0, gets about nine times the CPU time of such a thread while both want a core."""

_thread = threading.local()


def lower_own_priority() -> None:
    """Give the calling thread the niceness NICE, for good. Does nothing except on Linux, where each thread has one."""
    if sys.platform != "linux" or getattr(_thread, "is_low", False):
        return
    _thread.is_low = True
    with suppress(OSError):  # The whole process has an even higher niceness.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
