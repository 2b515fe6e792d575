"""Threads for the CPU work of searches, which must not block the event loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

P = ParamSpec("P")
T = TypeVar("T")

_MOST: Final = 8
"""Each thread has its own arrays in memory."""


def _cores() -> int:
    return min(_MOST, len(os.sched_getaffinity(0)))


class CpuThreads:
    """Runs functions in a bounded number of threads, in the order of arrival."""

    def __init__(self, at_once: int = 0) -> None:
        """`at_once`: by default one for each core. Scoring mostly does not hold the GIL."""
        self._at_once = at_once or _cores()
        self._limiter: CapacityLimiter | None = None

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `function`. When cancelled before it has begun, ends at once, else once it has ended."""
        if self._limiter is None:  # made on the event loop that it is used on
            self._limiter = CapacityLimiter(self._at_once)
        return await to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._limiter)
