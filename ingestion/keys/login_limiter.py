"""Limits failed logins by address."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from ingestion.errors import TooManyRequests

_MOST_ADDRESSES: Final = 100_000
_KNOWN_S: Final = 3600.0
_MINUTE_S: Final = 60.0


class LoginLimiter:
    """After `per_minute` failed logins in a minute, an address may try no other key until the minute ends.

    A key that has worked from the same address in the last hour goes on working: one caller behind a shared address
    does not lock out the others. It gives an attacker nothing, because it holds for this address only.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` 0: no limit."""
        self._per_minute = per_minute
        self._clock = clock
        self._failures: TTLCache[str, tuple[int, float]] = TTLCache(_MOST_ADDRESSES, _MINUTE_S, clock)
        """The failures of an address, and the end of their minute."""
        self._known: TTLCache[tuple[str, bytes], bool] = TTLCache(_MOST_ADDRESSES, _KNOWN_S, clock)

    def check(self, address: str | None, key: bytes) -> None:
        """Raises TooManyRequests where the address may not try `key` now."""
        if address is None or (failures := self._failures.get(address)) is None:
            return
        count, ends_at = failures
        left_s = ends_at - self._clock()
        if count < self._per_minute or left_s <= 0 or (address, _digest(key)) in self._known:
            return
        raise TooManyRequests("too many failed logins from this address", max(1, math.ceil(left_s)))

    def failed(self, address: str | None) -> None:
        if address is None or not self._per_minute:
            return
        now_s = self._clock()
        count, ends_at = self._failures.get(address, (0, now_s))
        if ends_at <= now_s:  # each failure prolongs the entry's time in the cache, so it may outlive its minute
            count, ends_at = 0, now_s + _MINUTE_S
        self._failures[address] = (count + 1, ends_at)

    def succeeded(self, address: str | None, key: bytes) -> None:
        if address is not None and self._per_minute:
            self._known[address, _digest(key)] = True


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
