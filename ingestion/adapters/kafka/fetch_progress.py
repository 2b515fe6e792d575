"""Notices a consumer that is alive and gets nothing: aiokafka raises no exception then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from ingestion.messages import Partition

_LONGEST_STEP_S: Final = 2.0
"""The time between two polls counts for at most this long: a process that was frozen has not waited for a fetch."""


class FetchProgress:
    """Measures for how long no fetch was answered, and for how long a group that was left was not joined again."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._seen_s = monotonic_s()
        self._answered: Mapping[Partition, int | None] = {}
        self._is_waiting = False
        self.silent_s = 0.0

    def joined(self) -> None:
        self._is_waiting = False
        self.silent_s = 0.0

    def left(self) -> None:
        """A rebalance has begun. Time counts until `joined`."""
        self._is_waiting = True
        self.silent_s = 0.0

    def note(self, answered: Mapping[Partition, int | None], *, has_records: bool) -> None:
        """Call this after each poll, with the time of the last answer for each partition that is not paused.

        One partition that is answered is enough: the leader of another one may be down.
        """
        now_s = self._monotonic_s()
        step_s, self._seen_s = min(now_s - self._seen_s, _LONGEST_STEP_S), now_s
        # A partition that has just been assigned is no answer.
        is_new = any(answer is not None and answer != self._answered.get(at) for at, answer in answered.items())
        self._answered = dict(answered)
        if has_records or is_new or not (answered or self._is_waiting):
            self.silent_s = 0.0
        else:
            self.silent_s += step_s
