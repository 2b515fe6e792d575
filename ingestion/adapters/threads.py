"""Blocking client libraries in threads, a bounded number side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from ingestion import metrics

T = TypeVar("T")


class Threads:
    """Runs functions of one client library in at most `limit` threads. Their CPU time is counted for `stage`."""

    def __init__(self, limit: int, *, stage: str) -> None:
        self._limiter = CapacityLimiter(limit)
        self._cpu_s = metrics.STAGE_CPU.labels(stage)

    async def read(self, function: Callable[[], T]) -> T:
        """Call `function`. When cancelled, leave at once and let the thread end by itself."""
        return await to_thread.run_sync(self._counted, function, limiter=self._limiter, abandon_on_cancel=True)

    async def write(self, function: Callable[[], T]) -> T:
        """Call `function`. When cancelled, wait until the thread has ended and only then leave.

        A write that went on after its caller had given up would arrive behind the caller's own clean-up.
        """
        async with self._limiter:
            task = asyncio.create_task(to_thread.run_sync(self._counted, function, limiter=CapacityLimiter(1)))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                while not task.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait((task,))
                if not task.cancelled():
                    task.exception()  # looked at, so that it is not reported as forgotten
                raise

    def _counted(self, function: Callable[[], T]) -> T:
        began_s = time.thread_time()
        try:
            return function()
        finally:
            self._cpu_s.inc(time.thread_time() - began_s)
