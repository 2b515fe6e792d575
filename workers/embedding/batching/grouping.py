"""Which items form the next batch, which priority goes first, and what a batch may cost. No threads, no clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

FORWARD_OVERHEAD: Final = 256
"""Fixed cost of a forward (kernel launches, unpacking of 4-bit weights), in positions (tokens or patches)."""

URGENT_IN_A_ROW: Final = 8
"""Urgent turns in a row while other work waits: a steady stream of queries leaves documents one turn in nine."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The chosen items, as indices into the costs that were given.

    `largest` is the largest cost among them. `cost` is the cost of the forward in positions, padding included.
    """

    indices: tuple[int, ...]
    largest: int
    cost: int

    def is_full(self, max_cost: int) -> bool:
        """True if one more item as large as the largest would exceed `max_cost`."""
        return self.cost + self.largest > max_cost


Chooser = Callable[[Sequence[int], int], BatchPlan]
"""(costs of the waiting items, oldest first, at least one; largest cost of a batch) -> the next batch."""


def choose_least_padding(costs: Sequence[int], max_cost: int) -> BatchPlan:
    """Choose a batch for a model that pads items to the largest one. `costs`: of the waiting items, oldest first.

    The batch always contains the oldest item. So an item of any size waits for at most as many batches as there were
    older items. The other items are neighbours of the oldest one in the order of cost. Among those batches, take
    the one with the highest rate:

        rate = sum of item costs / (largest cost x items + FORWARD_OVERHEAD)

    Older items go first among equal costs. The padded cost is at most `max_cost`; an item above it goes alone.
    """
    by_cost = sorted(range(len(costs)), key=lambda index: (-costs[index], index))
    largest_first = np.array([costs[index] for index in by_cost], np.int64)  # (items,)
    useful = np.concatenate([[0], np.cumsum(largest_first)])  # (items + 1,): cost of the first n items
    oldest = by_cost.index(0)
    best, best_rate = BatchPlan((0,), costs[0], costs[0]), 0.0
    for start in range(oldest + 1):
        largest = int(largest_first[start])
        if start and largest == largest_first[start - 1]:
            continue  # among equal costs a batch begins with the oldest
        sizes = np.arange(oldest - start + 1, min(max_cost // largest, len(costs) - start) + 1)
        if len(sizes):
            rates = (useful[start + sizes] - useful[start]) / (largest * sizes + FORWARD_OVERHEAD)
            at = int(np.argmax(rates))
            if rates[at] > best_rate:
                indices = tuple(by_cost[start : start + int(sizes[at])])
                best = BatchPlan(indices, largest, largest * len(indices))
                best_rate = float(rates[at])
    return best


def choose_oldest(costs: Sequence[int], max_cost: int) -> BatchPlan:
    """Choose a batch for a model that packs items without padding: the oldest items, as many as fit.

    An item above `max_cost` goes alone.
    """
    count, cost = 1, costs[0]
    while count < len(costs) and cost + costs[count] <= max_cost:
        cost += costs[count]
        count += 1
    return BatchPlan(tuple(range(count)), max(costs[:count]), cost)


class UrgentFirst:
    """Urgent work goes first. After `in_a_row` urgent turns, waiting work of the other priority gets one turn."""

    def __init__(self, in_a_row: int = URGENT_IN_A_ROW) -> None:
        self._limit: Final = in_a_row
        self._in_a_row = 0

    def is_urgent_next(self, *, urgent: bool, rest: bool) -> bool:
        """`urgent` and `rest` say which priorities have work."""
        return urgent and not (rest and self._in_a_row >= self._limit)

    def took(self, *, urgent: bool, rest_waits: bool) -> None:
        """Record a turn. `rest_waits`: non-urgent work could have gone in its place."""
        self._in_a_row = self._in_a_row + 1 if urgent and rest_waits else 0


class AdaptiveBatchLimit:
    """The largest cost of a batch: halved after an out-of-memory error, then raised in steps.

    After `raise_after` full batches without an error the limit grows by a tenth, up to nine tenths of the cost that
    failed last. After `forget_after` batches without an error that failure no longer counts, because another process
    may have freed memory. The limit never exceeds `max_cost`.
    """

    def __init__(self, max_cost: int, *, raise_after: int = 16, forget_after: int = 1000) -> None:
        self._max_cost: Final = max_cost
        self._raise_after: Final = raise_after
        self._forget_after: Final = forget_after
        self._ceiling = max_cost
        self._full_batches = 0
        self._batches = 0
        self.current = max_cost

    def on_out_of_memory(self, cost: int) -> None:
        """A batch of several items, of this cost, ran out of memory. `cost` may be less than `current`."""
        self.current = max(1, cost // 2)
        self._ceiling = max(self.current, cost * 9 // 10)
        self._full_batches = self._batches = 0

    def on_success(self, *, full: bool) -> None:
        """A batch fitted. Only a full batch is evidence for a larger limit."""
        self._batches += 1
        if self._batches == self._forget_after:
            self._ceiling = self._max_cost
        if full and self.current < self._ceiling:
            self._full_batches += 1
            if self._full_batches == self._raise_after:
                self.current = min(self._ceiling, self.current + max(1, self.current // 10))
                self._full_batches = 0
