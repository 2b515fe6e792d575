"""Time that a process has been running."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

TICK_S: Final = 0.5


class AwakeClock:
    """Seconds in which this process ran. SIGSTOP, a suspended machine or a blocked event loop do not count."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._seen_s = monotonic_s()
        self._awake_s = 0.0

    def tick(self) -> None:
        """To be called every `TICK_S`: what lies between two calls counts for twice that at most."""
        self._awake_s = self.now_s()
        self._seen_s = self._monotonic_s()

    def now_s(self) -> float:
        return self._awake_s + min(self._monotonic_s() - self._seen_s, 2 * TICK_S)
