"""Ends a process that has come to a standstill, so that its supervisor starts it again."""

from __future__ import annotations

import asyncio
import faulthandler
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

_BEATS_PER_LIMIT = 10
_AT_ONCE_S = 0.001


async def watch(polled_at: Callable[[], float], limit_s: float) -> None:
    """Put the end of this process off for as long as the event loop runs and the polling, `polled_at`, goes on.

    Once either has stood still for `limit_s` the stacks of all threads are written to stderr and the process exits
    with status 1, from a thread that needs neither the event loop nor the interpreter's lock. What the process held is
    freed as after a crash: leases run out and the broker hands its partitions on. Ends when cancelled.
    """
    try:
        while True:
            silent_s = time.monotonic() - polled_at()
            faulthandler.dump_traceback_later(max(limit_s - silent_s, _AT_ONCE_S), exit=True)
            if silent_s > limit_s / 2:
                log.error("polling stands still", seconds=round(silent_s, 1), exit_at_seconds=limit_s)
            await asyncio.sleep(limit_s / _BEATS_PER_LIMIT)
    finally:
        faulthandler.cancel_dump_traceback_later()


def exit_within(limit_s: float) -> None:
    """Have this process exit as `watch` does, unless it has ended in an orderly way by then. Nothing puts it off.

    For a process in which a thread hangs: Python waits for its threads before it exits.
    """
    faulthandler.dump_traceback_later(limit_s, exit=True)
