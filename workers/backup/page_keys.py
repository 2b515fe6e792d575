"""The page keys that restored documents get in place of those in the backup."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


class PageKeys:
    """Documents are added in the order of their keys in the backup."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ranges: list[tuple[range, int]] = []

    def add(self, old: range, first: int) -> None:
        self._starts.append(old.start)
        self._ranges.append((old, first))

    def new(self, keys: Sequence[int]) -> list[int | None]:
        """None for a key of a document that was not added."""
        return [self._new(key) for key in keys]

    def _new(self, key: int) -> int | None:
        place = bisect_right(self._starts, key) - 1
        if place < 0:
            return None
        old, first = self._ranges[place]
        return first + key - old.start if key in old else None
