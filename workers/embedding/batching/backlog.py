"""What waits for a device: calls with their items, and one queue of them for each priority. No threads, no clocks."""

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
from workers.embedding.batching.grouping import Batch
from workers.embedding.batching.stages import ItemT, PreparedT

TURN_ITEMS: Final = 8
"""Items of one call that are prepared before it is the next call's turn. A window of the pipeline fits in, so that
windows are finished one after another and replaced in time; all at once would leave the device empty-handed."""


class Call(Generic[ItemT]):
    """Items that were handed in together, and the future of their vectors. Belongs to the running event loop."""

    def __init__(self, items: Sequence[ItemT], *, urgent: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._vectors: list[Vectors | None] = [None] * len(items)
        self._missing = len(items)
        self.urgent = urgent
        self.unprepared = deque(enumerate(items))
        self.result: asyncio.Future[list[Vectors]] = self._loop.create_future()

    def deliver(self, index: int, vectors: Vectors) -> None:
        """From one thread only."""
        self._vectors[index] = vectors
        self._missing -= 1
        if not self._missing:
            self._settle(None)

    def fail(self, error: IngestError) -> None:
        """From any thread; the first error is what the caller sees."""
        self._settle(error)

    def _settle(self, error: IngestError | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._resolve, error)

    def _resolve(self, error: IngestError | None) -> None:
        if self.result.done():
            return
        if error is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result([found for found in self._vectors if found is not None])


@dataclass(slots=True, eq=False)
class Ticket(Generic[ItemT, PreparedT]):
    """One item of a call; `number` is its place in the line, `prepared_at` a time of the monotonic clock."""

    call: Call[ItemT]
    index: int
    number: int
    prepared: PreparedT = field(init=False)
    prepared_at: float = field(init=False)

    @property
    def cost(self) -> int:
        return self.prepared.cost


class Queue(Generic[ItemT, PreparedT]):
    """The calls of one priority. They take turns in having their items prepared; prepared items leave in batches."""

    def __init__(self, room: int) -> None:
        """No more items are prepared while those that are cost `room` or more."""
        self._room: Final = room
        self._turns: deque[Call[ItemT]] = deque()
        self._turn_items = 0
        self._cost = 0
        self.preparing = 0
        self.prepared: list[Ticket[ItemT, PreparedT]] = []
        """The oldest first."""

    @property
    def may_prepare(self) -> bool:
        return bool(self._turns) and self._cost < self._room

    @property
    def expects_more(self) -> bool:
        """True where items are being prepared or are about to be."""
        return self.preparing > 0 or self.may_prepare

    def enter(self, call: Call[ItemT]) -> None:
        self._turns.append(call)

    def next_item(self, number: int) -> tuple[Ticket[ItemT, PreparedT], ItemT]:
        """The item whose turn it is, which is being prepared from now on. Only where `may_prepare`."""
        call = self._turns[0]
        index, item = call.unprepared.popleft()
        self.preparing += 1
        self._turn_items += 1
        if not call.unprepared:
            self._end_turn(call)
        elif self._turn_items == TURN_ITEMS:
            self._end_turn(call)
            self._turns.append(call)
        return Ticket(call, index, number), item

    def insert(self, ticket: Ticket[ItemT, PreparedT]) -> None:
        insort(self.prepared, ticket, key=lambda waiting: waiting.number)
        self._cost += ticket.cost

    def take(self, batch: Batch) -> list[Ticket[ItemT, PreparedT]]:
        chosen = set(batch.indices)
        tickets = [self.prepared[index] for index in batch.indices]
        self._keep([ticket for index, ticket in enumerate(self.prepared) if index not in chosen])
        return tickets

    def forget(self, call: Call[ItemT]) -> None:
        """Drop what is left of the call, if anything."""
        if call in self._turns:
            self._end_turn(call)
        if any(ticket.call is call for ticket in self.prepared):
            self._keep([ticket for ticket in self.prepared if ticket.call is not call])

    def clear(self) -> None:
        self._turns.clear()
        self._keep([])

    def _end_turn(self, call: Call[ItemT]) -> None:
        if self._turns[0] is call:
            self._turn_items = 0
        self._turns.remove(call)

    def _keep(self, prepared: list[Ticket[ItemT, PreparedT]]) -> None:
        self.prepared = prepared
        self._cost = sum(ticket.cost for ticket in prepared)
