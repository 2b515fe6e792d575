"""Leaving a server alone that keeps its callers waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ingestion.errors import RetryableError

_TIMES: Final = 10
_LONGEST_S: Final = 30.0


class ServerCooldown:
    """After a failure a server is not asked for ten times as long as that took, 30 s at most.

    So one that refuses at once is asked again at once, and one that is silent costs its callers a tenth of their time
    together. While one caller finds out whether it is back, the others take it as resting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s = 0.0
        self._is_doubtful = False

    @property
    def is_cooling_down(self) -> bool:
        return self._clock() < self._until_s

    @contextmanager
    def request(self) -> Iterator[None]:
        """The server is asked in the block. A RetryableError out of it begins a rest, its end ends all doubt."""
        began_s = self._clock()
        if self._is_doubtful:
            self._until_s = began_s + _LONGEST_S
        try:
            yield
        except RetryableError:
            ended_s = self._clock()
            self._is_doubtful = True
            self._until_s = ended_s + min(_LONGEST_S, _TIMES * (ended_s - began_s))
            raise
        except BaseException:
            self._until_s = began_s  # the caller left, or was wrong: nothing is known of the server
            raise
        self._is_doubtful, self._until_s = False, 0.0
