"""A cache bounded in bytes that keeps the entries that are used most often."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_LEAST_USES: Final = 1_000
_USES_OF_AN_ENTRY: Final = 10
"""After so many uses for each entry all counts are halved, so that entries of today replace those of yesterday."""


class FrequencyCache(Generic[K, V]):
    """LRU with admission by frequency (TinyLFU: Einziger, Friedman and Manes, 2017).

    A new entry replaces others only where it has been asked for more often than each of them. So a set of entries that
    is used in turn and does not fit stays in part, where plain LRU would keep none of it until its next use.
    """

    def __init__(self, limit_bytes: int, size_of: Callable[[V], int]) -> None:
        self._limit_bytes = limit_bytes
        self._size_of = size_of
        self._entries = OrderedDict[K, V]()
        self._uses = dict[K, int]()
        self._counted = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: K) -> V | None:
        """The entry, or None. This is no use of it."""
        return self._entries.get(key)

    def get(self, key: K) -> V | None:
        """The entry, or None. Both count as a use of the key."""
        self._uses[key] = self._uses.get(key, 0) + 1
        self._counted += 1
        if self._counted > max(_LEAST_USES, _USES_OF_AN_ENTRY * len(self._entries)):
            self._uses = {one: uses // 2 for one, uses in self._uses.items() if uses > 1}
            self._counted //= 2
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Add an entry, if it is used more often than those that must leave for it. An entry never changes."""
        size = self._size_of(value)
        if key in self._entries or size > self._limit_bytes:
            return
        leaving, left_bytes = list[K](), self.bytes
        for oldest, entry in self._entries.items():
            if left_bytes + size <= self._limit_bytes:
                break
            if self._uses.get(oldest, 0) >= self._uses.get(key, 0):
                return
            leaving.append(oldest)
            left_bytes -= self._size_of(entry)
        for oldest in leaving:
            del self._entries[oldest]
        self._entries[key] = value
        self.bytes = left_bytes + size
