"""Ends a process that hangs, so that its supervisor starts it again."""

from __future__ import annotations

import asyncio
import faulthandler
import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_BEATS_PER_LIMIT: Final = 10
_AT_ONCE_S: Final = 0.001


async def watch(polled_at: Callable[[], float], limit_s: float) -> None:
    """Exit this process with status 1 once its event loop or its polling has hung for `limit_s`. Ends when cancelled.

    `polled_at` returns the monotonic time of the last poll. Before the exit the stacks of all threads are written to
    stderr. The thread that does so needs neither the event loop nor the interpreter's lock. What the process held is
    freed as after a crash: leases run out, and the broker gives its partitions to other workers.
    """
    try:
        while True:
            silent_s = time.monotonic() - polled_at()
            faulthandler.dump_traceback_later(max(limit_s - silent_s, _AT_ONCE_S), exit=True)
            if silent_s > limit_s / 2:
                log.error("polling hangs", seconds=round(silent_s, 1), exit_at_seconds=limit_s)
            await asyncio.sleep(limit_s / _BEATS_PER_LIMIT)
    finally:
        faulthandler.cancel_dump_traceback_later()


def exit_within(limit_s: float) -> None:
    """Exit as `watch` does after `limit_s`, unless this process has ended by then. It cannot be taken back.

    For a process with a thread that hangs: Python waits for its threads before it exits.
    """
    faulthandler.dump_traceback_later(limit_s, exit=True)
