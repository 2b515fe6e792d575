"""Background tasks that are restarted where they end.

asyncio keeps the exception of a task until the task is awaited, and a background task never is. Here a task that ends
unexpectedly is logged with its traceback, counted, and started again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import structlog

from ingestion import metrics
from ingestion.concurrency.cancellation import is_stray_cancellation

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_SOUND_S: Final = 60.0
"""A task that ran at least this long before it failed is restarted after the first pause, not after a longer one."""

Work = Callable[[], Awaitable[object]]


class TaskSupervisor:
    """Runs tasks until `stop`, or until the end of the block, and restarts those that end.

    An exception, an unexpected return and a cancellation from outside restart the work after a pause, which doubles
    while the work keeps failing. SystemExit and KeyboardInterrupt end the process.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def run_forever(self, name: str, work: Work) -> None:
        """Run `work()` in a new task, again whenever it ends. `name` is for the log and the metric."""
        self._start(name, work, may_return=False)

    def run_until_done(self, name: str, work: Work) -> None:
        """Run `work()` in a new task, again until it returns."""
        self._start(name, work, may_return=True)

    async def stop(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, name: str, work: Work, *, may_return: bool) -> None:
        task = asyncio.create_task(_kept_alive(name, work, may_return=may_return), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _kept_alive(name: str, work: Work, *, may_return: bool) -> None:
    pause_s = _FIRST_PAUSE_S
    metrics.BACKGROUND_RESTARTS.labels(name)  # the series begins at 0: an alert sees its first increase
    while True:
        began_s = time.monotonic()
        try:
            await work()
            if may_return:
                return
            log.error("background task returned", task=name)
        except asyncio.CancelledError:
            if not is_stray_cancellation():
                raise
            log.exception("background task was cancelled from within", task=name)
        except Exception:
            log.exception("background task failed", task=name)
        metrics.BACKGROUND_RESTARTS.labels(name).inc()
        if time.monotonic() - began_s >= _SOUND_S:
            pause_s = _FIRST_PAUSE_S
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
