"""A cache that never grows beyond its capacity."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Forgets what was not asked for the longest as soon as the costs of all entries exceed `capacity`.

    For values that never change under their key. An entry that costs more than `capacity` alone is not kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.cost = 0

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, cost: int = 1) -> None:
        if key in self._entries or cost > self._capacity:
            return
        self._entries[key] = (value, cost)
        self.cost += cost
        while self.cost > self._capacity:
            _, (_, freed) = self._entries.popitem(last=False)
            self.cost -= freed
