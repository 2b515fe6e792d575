"""What makes the next batch, who goes first, and how much a batch may hold. No threads, no clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

FORWARD_OVERHEAD: Final = 256
"""What a forward costs however little is in it (launching kernels, unpacking 4-bit weights), in positions."""

URGENT_IN_A_ROW: Final = 8
"""Few enough for documents to get on under a steady stream of queries, many enough for queries not to feel it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Indices into the costs it was chosen from; `cost` is what the device computes, padding included.

    `largest` is the largest cost of an item in it.
    """

    indices: tuple[int, ...]
    largest: int
    cost: int

    def is_full(self, budget: int) -> bool:
        """True where another item as large as the largest would not fit."""
        return self.cost + self.largest > budget


Chooser = Callable[[Sequence[int], int], Batch]
"""Costs of the items that wait, at least one, the oldest first, and the budget, to the batch to run next."""


def choose(costs: Sequence[int], budget: int) -> Batch:
    """The batch to run next, of one or more items that wait; `costs` are theirs, the oldest item first.

    The oldest item is always in it, so that none waits for more batches than there were items before it, whatever its
    size. Around it are those items, of costs next to each other, with which the device computes the most wanted
    positions in the least time, taking a forward's time as its padded cost and FORWARD_OVERHEAD. Of equal items older
    ones go first. The padded cost is at most `budget`, except that an item larger than that goes alone.
    """
    by_cost = sorted(range(len(costs)), key=lambda index: (-costs[index], index))
    largest_first = np.array([costs[index] for index in by_cost], np.int64)
    wanted = np.concatenate([[0], np.cumsum(largest_first)])  # of the first n
    oldest = by_cost.index(0)
    best, best_rate = Batch((0,), costs[0], costs[0]), 0.0
    for start in range(oldest + 1):
        largest = int(largest_first[start])
        if start and largest == largest_first[start - 1]:
            continue  # of equal costs it has to begin with the first
        sizes = np.arange(oldest - start + 1, min(budget // largest, len(costs) - start) + 1)
        if len(sizes):
            rates = (wanted[start + sizes] - wanted[start]) / (largest * sizes + FORWARD_OVERHEAD)
            at = int(np.argmax(rates))
            if rates[at] > best_rate:
                indices = tuple(by_cost[start : start + int(sizes[at])])
                best = Batch(indices, largest, largest * len(indices))
                best_rate = float(rates[at])
    return best


def first_come(costs: Sequence[int], budget: int) -> Batch:
    """As `choose`, for a model that pads nothing: the items that have waited longest, as many as fit.

    What is beside an item does not matter to such a model, and whoever came first need not wait for a better fit.
    """
    count, cost = 1, costs[0]
    while count < len(costs) and cost + costs[count] <= budget:
        cost += costs[count]
        count += 1
    return Batch(tuple(range(count)), max(costs[:count]), cost)


class UrgentFirst:
    """Who goes next: the urgent, except that after `in_a_row` of them one of the rest goes that has waited for them.

    So the rest gets one turn in `in_a_row + 1` at least, however much is urgent.
    """

    def __init__(self, in_a_row: int = URGENT_IN_A_ROW) -> None:
        self._limit: Final = in_a_row
        self._in_a_row = 0

    def is_urgent_next(self, *, urgent: bool, rest: bool) -> bool:
        """`urgent` and `rest` say whether any of them could go."""
        return urgent and not (rest and self._in_a_row >= self._limit)

    def took(self, *, urgent: bool, rest_waits: bool) -> None:
        """One has gone; `rest_waits`: and one of the rest could have gone in its place."""
        self._in_a_row = self._in_a_row + 1 if urgent and rest_waits else 0


class Budget:
    """How much a batch may cost: halved when one did not fit the memory, then carefully raised again.

    After `raise_after` full batches without trouble it grows by a tenth, up to nine tenths of what failed last; after
    `forget_after` batches without trouble that failure no longer counts, for whoever took the memory may be gone.
    `limit` is never exceeded.
    """

    def __init__(self, limit: int, *, raise_after: int = 16, forget_after: int = 1000) -> None:
        self._limit: Final = limit
        self._raise_after: Final = raise_after
        self._forget_after: Final = forget_after
        self._ceiling = limit
        self._full_batches = 0
        self._batches = 0
        self.current = limit

    def did_not_fit(self, cost: int) -> None:
        """A batch of several items ran out of memory. What it cost counts, which may be less than was allowed."""
        self.current = max(1, cost // 2)
        self._ceiling = max(self.current, cost * 9 // 10)
        self._full_batches = self._batches = 0

    def fitted(self, *, full: bool) -> None:
        """A batch went well. Only a full one says anything about a larger budget."""
        self._batches += 1
        if self._batches == self._forget_after:
            self._ceiling = self._limit
        if full and self.current < self._ceiling:
            self._full_batches += 1
            if self._full_batches == self._raise_after:
                self.current = min(self._ceiling, self.current + max(1, self.current // 10))
                self._full_batches = 0
