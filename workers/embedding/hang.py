"""A device that hangs under an embedding service: no step of it ends any more, and no thread of it can be ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from ingestion.ports import Steps
from ingestion.settings import WorkerSettings
from workers.embedding.serving.model import Model
from workers.runtime.awake_clock import AwakeClock
from workers.runtime.watchdog import exit_within

log = structlog.get_logger(__name__)

_TICK_S: Final = 0.5
_STEPS_KEPT: Final = 64
_FIRST_S: Final = 900.0
"""The first step warms the device up, which may take minutes."""
_LONGEST_S: Final = 3600.0
_END_S: Final = 10.0
"""For those who are told by then that the model is lost."""


class HangWatch:
    """Tells `on_hang` the cause, once, where the same step is under way for longer than the limit.

        limit = the longest of the latest steps x `factor`; at least `floor_s`

    Time in which this process did not run does not count.
    """

    def __init__(
        self,
        steps: Steps,
        *,
        floor_s: float,
        factor: float,
        on_hang: Callable[[str], None],
        clock: AwakeClock | None = None,
    ) -> None:
        self._steps = steps
        self._floor_s = floor_s
        self._factor = factor
        self._on_hang = on_hang
        self._clock = clock or AwakeClock()
        self._seconds = deque[float](maxlen=_STEPS_KEPT)
        self._step: object = None
        self._began_s = 0.0
        self._is_told = False

    @property
    def limit_s(self) -> float:
        if not self._seconds:
            return max(self._floor_s, _FIRST_S)
        return max(self._floor_s, min(self._factor * max(self._seconds), _LONGEST_S))

    async def run(self) -> None:
        """Look at the device now and then. Ends when cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.look()

    def look(self) -> None:
        """To be called every half second."""
        self._clock.tick()
        now_s, step = self._clock.now_s(), self._steps.oldest
        if step is not self._step:
            if self._step is not None:
                self._seconds.append(now_s - self._began_s)
            self._step, self._began_s = step, now_s
        elif step is not None and now_s - self._began_s > self.limit_s and not self._is_told:
            self._is_told = True
            at_it_s = now_s - self._began_s
            cause = f"the device has been at one step for {at_it_s:.0f} s, with a limit of {self.limit_s:.0f} s"
            log.error("device hangs", cause=cause)
            self._on_hang(cause)


def hang_watch(settings: WorkerSettings, steps: Steps, model: Model) -> HangWatch:
    """Where the device hangs, `model` is lost and this process ends with status 1, for its supervisor to begin anew.

    What was under way has no answer then: the thread that hangs cannot be ended.
    """

    def end(cause: str) -> None:
        model.give_up(cause)
        exit_within(_END_S)

    return HangWatch(steps, floor_s=settings.stall_s, factor=settings.stall_factor, on_hang=end)
