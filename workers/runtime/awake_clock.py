"""A clock of the time in which a process ran."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

TICK_S: Final = 0.5


class AwakeClock:
    """Counts the seconds in which this process ran: not those of SIGSTOP, a suspended machine or a blocked loop."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._seen_s = monotonic_s()
        self._awake_s = 0.0

    def tick(self) -> None:
        """Call this every `TICK_S`. The time between two calls counts for at most twice that."""
        self._awake_s = self.now_s()
        self._seen_s = self._monotonic_s()

    def now_s(self) -> float:
        return self._awake_s + min(self._monotonic_s() - self._seen_s, 2 * TICK_S)
