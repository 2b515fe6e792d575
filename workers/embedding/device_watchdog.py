"""A watchdog for the device of an embedding service. A thread that hangs in a device call cannot be ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from ingestion.ports import Activity
from ingestion.settings import WorkerSettings
from workers.embedding.serving.model import MonitoredModel
from workers.runtime.awake_clock import AwakeClock
from workers.runtime.watchdog import exit_within

log = structlog.get_logger(__name__)

_CHECK_INTERVAL_S: Final = 0.5
_RECENT_OPERATIONS: Final = 64
_FIRST_OPERATION_S: Final = 900.0
"""The first operation warms up the device, which may take minutes."""
_LARGEST_LIMIT_S: Final = 3600.0
_EXIT_S: Final = 10.0
"""Time for waiting requests to receive their error before the process ends."""


class DeviceWatchdog:
    """Calls `on_hang` once, with the cause, if one operation runs longer than the limit.

        limit = max(floor_s, min(factor x longest of the latest 64 operations, 1 h))

    Time in which this process did not run does not count.
    """

    def __init__(
        self,
        activity: Activity,
        *,
        floor_s: float,
        factor: float,
        on_hang: Callable[[str], None],
        clock: AwakeClock | None = None,
    ) -> None:
        self._activity = activity
        self._floor_s = floor_s
        self._factor = factor
        self._on_hang = on_hang
        self._clock = clock or AwakeClock()
        self._durations_s = deque[float](maxlen=_RECENT_OPERATIONS)
        self._operation: object = None
        self._began_s = 0.0
        self._has_reported = False

    @property
    def limit_s(self) -> float:
        if not self._durations_s:
            return max(self._floor_s, _FIRST_OPERATION_S)
        return max(self._floor_s, min(self._factor * max(self._durations_s), _LARGEST_LIMIT_S))

    async def run(self) -> None:
        """Check the device every half second until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            self.check()

    def check(self) -> None:
        """Compare the running operation with the limit. Call it every half second."""
        self._clock.tick()
        now_s, operation = self._clock.now_s(), self._activity.oldest
        if operation is not self._operation:
            if self._operation is not None:
                self._durations_s.append(now_s - self._began_s)
            self._operation, self._began_s = operation, now_s
        elif operation is not None and now_s - self._began_s > self.limit_s and not self._has_reported:
            self._has_reported = True
            running_s = now_s - self._began_s
            cause = f"one operation has kept the device for {running_s:.0f} s; the limit is {self.limit_s:.0f} s"
            log.error("device hangs", cause=cause)
            self._on_hang(cause)


def watch_device(settings: WorkerSettings, activity: Activity, model: MonitoredModel) -> DeviceWatchdog:
    """A watchdog that marks `model` lost and ends this process with status 1, so that a supervisor restarts it.

    Requests in progress get no embeddings, because the hanging thread cannot be ended.
    """

    def end(cause: str) -> None:
        model.mark_lost(cause)
        exit_within(_EXIT_S)

    return DeviceWatchdog(activity, floor_s=settings.stall_s, factor=settings.stall_factor, on_hang=end)
