"""Run blocking client libraries in a bounded number of threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from ingestion import metrics
from ingestion.concurrency.deadline import remaining_s
from ingestion.errors import DependencyUnavailable

T = TypeVar("T")


class Threads:
    """Runs functions of one client library in at most `limit` threads. Their CPU time is counted for `stage`.

    The time of each function, without the wait for a free thread, is observed for its `operation`.

    A caller whose time budget is spent gets DependencyUnavailable, also while it waits for a free thread. The function
    must limit its own requests (`limit_s`), because a thread cannot be stopped.
    """

    def __init__(self, limit: int, *, stage: str, dependency: str = "") -> None:
        self._dependency = dependency or stage
        self._limiter = CapacityLimiter(limit)
        self._cpu_s = metrics.STAGE_CPU.labels(stage)

    async def read(self, function: Callable[[], T], operation: str = "other") -> T:
        """Call `function`. If cancelled or out of time, raise at once; the thread ends by itself."""
        async with self._in_time():
            return await to_thread.run_sync(
                self._measured, function, operation, limiter=self._limiter, abandon_on_cancel=True
            )

    async def write(self, function: Callable[[], T], operation: str = "other") -> T:
        """Call `function`. If cancelled, wait until the thread has ended, then raise CancelledError.

        Otherwise the write could reach the server after the caller's own clean-up.
        """
        async with self._thread():
            task = asyncio.create_task(
                to_thread.run_sync(self._measured, function, operation, limiter=CapacityLimiter(1))
            )
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                while not task.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait((task,))
                if not task.cancelled():
                    task.exception()  # retrieved, so that asyncio does not log it as never retrieved
                raise

    @asynccontextmanager
    async def _thread(self) -> AsyncIterator[None]:
        async with self._in_time():
            await self._limiter.acquire()
        try:
            yield
        finally:
            self._limiter.release()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Raise DependencyUnavailable once the caller's budget is spent."""
        timer = asyncio.timeout(remaining_s())
        try:
            async with timer:
                yield
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise DependencyUnavailable(self._dependency, "it did not answer within the time for it") from error

    def _measured(self, function: Callable[[], T], operation: str) -> T:
        began_s = time.thread_time()
        try:
            with metrics.STORE_REQUESTS.labels(self._dependency, operation).time():
                return function()
        finally:
            self._cpu_s.inc(time.thread_time() - began_s)
