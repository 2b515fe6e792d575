"""A cache bounded in bytes from which one pass over many entries removes no entry that is used again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_PROTECTED_SHARE: Final = 0.8
_PATIENCE: Final = 2
"""A protected entry is removed first once this many times the limit has been added since its last use."""


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    size_bytes: int
    used_at: int
    """The bytes that had been added to the cache at its last use."""


class SegmentedCache(Generic[K, V]):
    """Segmented LRU (Karedla, Love and Wherry, 1994).

    An entry begins on probation, and is protected once it has been used a second time. Entries on probation are
    removed first, so a single pass over many entries removes no protected one. A protected entry that has not been
    used for long is removed before them, so that entries of today replace those of yesterday.
    """

    def __init__(self, limit_bytes: int, size_of: Callable[[V], int]) -> None:
        self._limit_bytes = limit_bytes
        self._size_of = size_of
        self._probation = OrderedDict[K, _Entry[V]]()
        self._protected = OrderedDict[K, _Entry[V]]()
        self._protected_bytes = 0
        self._added_bytes = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._probation) + len(self._protected)

    def __contains__(self, key: K) -> bool:
        """Whether there is such an entry. This is no use of it."""
        return key in self._protected or key in self._probation

    def get(self, key: K) -> V | None:
        """The entry. None where there is none."""
        if (entry := self._protected.get(key)) is not None:
            self._protected.move_to_end(key)
        elif (entry := self._probation.pop(key, None)) is not None:
            self._protect(key, entry)
        else:
            return None
        entry.used_at = self._added_bytes
        return entry.value

    def put(self, key: K, value: V) -> None:
        """Add an entry, or replace it. One that is larger than the limit is not kept."""
        self.remove(key)
        size = self._size_of(value)
        if size > self._limit_bytes:
            return
        self._added_bytes += size
        self.bytes += size
        while self.bytes > self._limit_bytes:
            self._remove_one()
        self._probation[key] = _Entry(value, size, self._added_bytes)

    def remove(self, key: K) -> None:
        """Remove the entry, if there is one."""
        if (entry := self._protected.pop(key, None)) is not None:
            self._protected_bytes -= entry.size_bytes
        elif (entry := self._probation.pop(key, None)) is None:
            return
        self.bytes -= entry.size_bytes

    def _protect(self, key: K, entry: _Entry[V]) -> None:
        self._protected[key] = entry
        self._protected_bytes += entry.size_bytes
        while self._protected_bytes > _PROTECTED_SHARE * self._limit_bytes:
            oldest, demoted = self._protected.popitem(last=False)
            self._protected_bytes -= demoted.size_bytes
            self._probation[oldest] = demoted

    def _remove_one(self) -> None:
        oldest = next(iter(self._protected.items()), None)
        if oldest is not None:
            key, entry = oldest
            is_unused = self._added_bytes - entry.used_at > _PATIENCE * self._limit_bytes
            if is_unused or not self._probation:
                self.remove(key)
                return
        self.remove(next(iter(self._probation)))
