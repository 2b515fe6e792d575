"""CPU work of searches, which never runs on the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

P = ParamSpec("P")
T = TypeVar("T")

_AT_ONCE: Final = 2
"""More would share the same cores, and each has its own arrays in memory."""


class Computing:
    """Runs functions in threads, so many at a time. A caller that came first has its turn first."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._limiter: CapacityLimiter | None = None

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `function`. When cancelled while waiting for a turn, leave at once; else once it is there."""
        if self._limiter is None:  # made on the event loop that it is used on
            self._limiter = CapacityLimiter(self._at_once)
        return await to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._limiter)
