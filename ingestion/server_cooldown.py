"""Sends no request, for a while, to a server that keeps its callers waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ingestion.errors import RetryableError

_FACTOR: Final = 10
_LONGEST_S: Final = 30.0


class ServerCooldown:
    """After a failed request, cools down for ten times as long as the request took, at most 30 s.

    So a server that refuses at once is asked again at once, and a silent server costs all its callers together a tenth
    of their time. While one caller tests whether the server is back, it cools down for the others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s = 0.0
        self._has_failed = False

    @property
    def is_cooling_down(self) -> bool:
        return self._clock() < self._until_s

    @contextmanager
    def request(self) -> Iterator[None]:
        """The block sends a request. A RetryableError from it begins a cooldown, success ends it."""
        began_s = self._clock()
        if self._has_failed:
            self._until_s = began_s + _LONGEST_S
        try:
            yield
        except RetryableError:
            ended_s = self._clock()
            self._has_failed = True
            self._until_s = ended_s + min(_LONGEST_S, _FACTOR * (ended_s - began_s))
            raise
        except BaseException:
            self._until_s = began_s  # the caller left, or its request was wrong: that says nothing about the server
            raise
        self._has_failed, self._until_s = False, 0.0
