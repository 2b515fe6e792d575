"""Calls of one priority and their items, before the device takes them. No threads, no clocks."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Generic

from ingestion.errors import IngestError
from ingestion.model import Vectors
from workers.embedding.batching.grouping import BatchPlan
from workers.embedding.batching.stages import ItemT, PreparedT

TURN_ITEMS: Final = 8
"""Items of one call that are prepared before the next call's turn. A pipeline window (up to 8 pages) fits into one
turn, so windows finish one after another. Item-by-item turns would finish all windows at once and leave the device
idle until new ones arrive."""


class Call(Generic[ItemT]):
    """Items that one caller handed in together, and the future of their vectors. Belongs to the running event loop."""

    def __init__(self, items: Sequence[ItemT], *, urgent: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._vectors: list[Vectors | None] = [None] * len(items)
        self._missing = len(items)
        self.urgent = urgent
        self.unprepared = deque(enumerate(items))
        self.result: asyncio.Future[list[Vectors]] = self._loop.create_future()

    def deliver(self, index: int, vectors: Vectors) -> None:
        """Store the vectors of item `index`; the last item resolves `result`. Call from one thread only."""
        self._vectors[index] = vectors
        self._missing -= 1
        if not self._missing:
            self._settle(None)

    def fail(self, error: IngestError) -> None:
        """Make `result` raise `error`. Later errors are ignored. Any thread may call this."""
        self._settle(error)

    def _settle(self, error: IngestError | None) -> None:
        with suppress(RuntimeError):  # the event loop is closed: no caller waits
            self._loop.call_soon_threadsafe(self._resolve, error)

    def _resolve(self, error: IngestError | None) -> None:
        if self.result.done():
            return
        if error is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result([vectors for vectors in self._vectors if vectors is not None])


@dataclass(slots=True, eq=False)
class WorkItem(Generic[ItemT, PreparedT]):
    """Item `index` of a call. `number` is its position in arrival order; `prepared_at_s` is monotonic time."""

    call: Call[ItemT]
    index: int
    number: int
    prepared: PreparedT = field(init=False)
    prepared_at_s: float = field(init=False)

    @property
    def cost(self) -> int:
        return self.prepared.cost


class Backlog(Generic[ItemT, PreparedT]):
    """The calls of one priority. Calls take turns (round-robin) to prepare items; prepared items leave in batches."""

    def __init__(self, max_prepared_cost: int) -> None:
        """No further item is prepared while the prepared items cost `max_prepared_cost` or more."""
        self._max_prepared_cost: Final = max_prepared_cost
        self._turns: deque[Call[ItemT]] = deque()
        self._turn_items = 0
        self._prepared_cost = 0
        self.preparing = 0
        self.prepared: list[WorkItem[ItemT, PreparedT]] = []
        """Oldest first."""

    @property
    def may_prepare(self) -> bool:
        return bool(self._turns) and self._prepared_cost < self._max_prepared_cost

    @property
    def expects_more(self) -> bool:
        """True while items are being prepared or can be prepared now."""
        return self.preparing > 0 or self.may_prepare

    def add_call(self, call: Call[ItemT]) -> None:
        self._turns.append(call)

    def next_item(self, number: int) -> tuple[WorkItem[ItemT, PreparedT], ItemT]:
        """Take the next item for preparation. Call only while `may_prepare` is true."""
        call = self._turns[0]
        index, item = call.unprepared.popleft()
        self.preparing += 1
        self._turn_items += 1
        if not call.unprepared:
            self._end_turn(call)
        elif self._turn_items == TURN_ITEMS:
            self._end_turn(call)
            self._turns.append(call)
        return WorkItem(call, index, number), item

    def insert(self, work_item: WorkItem[ItemT, PreparedT]) -> None:
        """Put a prepared item into its place in arrival order."""
        insort(self.prepared, work_item, key=lambda waiting: waiting.number)
        self._prepared_cost += work_item.cost

    def take(self, plan: BatchPlan) -> list[WorkItem[ItemT, PreparedT]]:
        """Remove and return the prepared items that `plan` names."""
        chosen = set(plan.indices)
        work_items = [self.prepared[index] for index in plan.indices]
        self._replace_prepared([item for index, item in enumerate(self.prepared) if index not in chosen])
        return work_items

    def drop_call(self, call: Call[ItemT]) -> None:
        """Drop the remaining items of the call. Does nothing for a call without any."""
        if call in self._turns:
            self._end_turn(call)
        if any(work_item.call is call for work_item in self.prepared):
            self._replace_prepared([work_item for work_item in self.prepared if work_item.call is not call])

    def clear(self) -> None:
        self._turns.clear()
        self._replace_prepared([])

    def _end_turn(self, call: Call[ItemT]) -> None:
        if self._turns[0] is call:
            self._turn_items = 0
        self._turns.remove(call)

    def _replace_prepared(self, prepared: list[WorkItem[ItemT, PreparedT]]) -> None:
        self.prepared = prepared
        self._prepared_cost = sum(work_item.cost for work_item in prepared)
