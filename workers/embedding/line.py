"""Where items wait: for preparation first, then for the device. Shared by threads; the `take` methods block."""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Generic

from ingestion.errors import IngestError
from ingestion.model import Vectors
from workers.embedding.grouping import Batch, choose
from workers.embedding.staged import ItemT, PreparedT

TURN_ITEMS: Final = 8
"""Items of one call that are prepared before it is the next call's turn. A window of the pipeline fits in, so that
windows are finished one after another and replaced in time; all at once would leave the device empty-handed."""


class Call(Generic[ItemT]):
    """Items that were handed in together, and the future of their vectors. Belongs to the running event loop."""

    def __init__(self, items: Sequence[ItemT]) -> None:
        self._loop = asyncio.get_running_loop()
        self._vectors: list[Vectors | None] = [None] * len(items)
        self._missing = len(items)
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
    """One item of a call; `number` is its place in the line."""

    call: Call[ItemT]
    index: int
    number: int
    prepared: PreparedT = field(init=False)
    prepared_at: float = field(init=False)

    @property
    def cost(self) -> int:
        return self.prepared.cost


@dataclass(frozen=True, slots=True)
class Load(Generic[ItemT, PreparedT]):
    """A batch that has left the line. `cost` includes padding; `is_full`: one more of its largest would not fit."""

    tickets: list[Ticket[ItemT, PreparedT]]
    cost: int
    is_full: bool
    waited_s: list[float]

    @property
    def padding(self) -> int:
        return self.cost - sum(ticket.cost for ticket in self.tickets)

    def fail(self, error: IngestError) -> None:
        for call in {ticket.call for ticket in self.tickets}:
            call.fail(error)


class Line(Generic[ItemT, PreparedT]):
    """Calls take turns in having their items prepared; prepared items leave in batches.

    No more items are prepared while those that wait for the device cost `room` or more.
    """

    def __init__(self, *, room: int, wait_s: float) -> None:
        self._room: Final = room
        self._wait_s: Final = wait_s
        self._lock = threading.Lock()
        self._may_prepare = threading.Condition(self._lock)
        self._may_batch = threading.Condition(self._lock)
        self._open: set[Call[ItemT]] = set()
        self._turns: deque[Call[ItemT]] = deque()
        self._turn_items = 0
        self._next_number = 0
        self._preparing = 0
        self._prepared: list[Ticket[ItemT, PreparedT]] = []
        self._prepared_cost = 0
        self._closed = False

    def enter(self, call: Call[ItemT]) -> bool:
        """False where the line is closed."""
        with self._lock:
            if not self._closed:
                self._open.add(call)
                self._turns.append(call)
                self._may_prepare.notify_all()
            return not self._closed

    def leave(self, call: Call[ItemT]) -> None:
        """Forget what is left of the call, if anything."""
        with self._lock:
            self._open.discard(call)
            if call in self._turns:
                self._end_turn(call)
            if any(ticket.call is call for ticket in self._prepared):
                self._set_prepared([ticket for ticket in self._prepared if ticket.call is not call])
            self._may_batch.notify()

    def take_item(self) -> tuple[Ticket[ItemT, PreparedT], ItemT] | None:
        """The next item to prepare, in turn, once there is room; None when the line is closed.

        It has to be followed by `put` or `spoiled`.
        """
        with self._lock:
            self._may_prepare.wait_for(lambda: self._closed or self._has_turn())
            if self._closed:
                return None
            call = self._turns[0]
            index, item = call.unprepared.popleft()
            ticket = Ticket[ItemT, PreparedT](call, index, self._next_number)
            self._next_number += 1
            self._preparing += 1
            self._turn_items += 1
            if not call.unprepared:
                self._end_turn(call)
            elif self._turn_items == TURN_ITEMS:
                self._end_turn(call)
                self._turns.append(call)
            return ticket, item

    def put(self, ticket: Ticket[ItemT, PreparedT], prepared: PreparedT) -> None:
        """The item waits for the device now, unless its call has left."""
        with self._lock:
            self._preparing -= 1
            ticket.prepared, ticket.prepared_at = prepared, time.monotonic()
            self._insert(ticket)

    def spoiled(self) -> None:
        """An item that was taken could not be prepared."""
        with self._lock:
            self._preparing -= 1
            self._may_batch.notify()

    def take_batch(self, budget: int) -> Load[ItemT, PreparedT] | None:
        """The next batch, when it is time; None when the line is closed."""
        with self._lock:
            while not self._closed:
                batch = choose([ticket.cost for ticket in self._prepared], budget) if self._prepared else None
                rest_s = self._patience_s(batch, budget) if batch else None
                if batch and not rest_s:
                    return self._take(batch, budget)
                self._may_batch.wait(rest_s)
            return None

    def put_back(self, tickets: Sequence[Ticket[ItemT, PreparedT]]) -> None:
        """What was taken waits again, in its old place."""
        with self._lock:
            for ticket in tickets:
                self._insert(ticket)

    def close(self) -> set[Call[ItemT]]:
        """No item comes in or out any more. Returns the calls that are left without their vectors."""
        with self._lock:
            self._closed = True
            self._may_prepare.notify_all()
            self._may_batch.notify_all()
            left, self._open = self._open, set()
            self._turns.clear()
            self._set_prepared([])
            return left

    def _has_turn(self) -> bool:
        return bool(self._turns) and self._prepared_cost < self._room

    def _end_turn(self, call: Call[ItemT]) -> None:
        if self._turns[0] is call:
            self._turn_items = 0
        self._turns.remove(call)

    def _insert(self, ticket: Ticket[ItemT, PreparedT]) -> None:
        if ticket.call in self._open:
            insort(self._prepared, ticket, key=lambda waiting: waiting.number)
            self._prepared_cost += ticket.cost
        self._may_batch.notify()

    def _take(self, batch: Batch, budget: int) -> Load[ItemT, PreparedT]:
        now = time.monotonic()
        chosen = set(batch.indices)
        tickets = [self._prepared[index] for index in batch.indices]
        self._set_prepared([ticket for index, ticket in enumerate(self._prepared) if index not in chosen])
        return Load(tickets, batch.cost, batch.is_full(budget), [now - ticket.prepared_at for ticket in tickets])

    def _set_prepared(self, prepared: list[Ticket[ItemT, PreparedT]]) -> None:
        self._prepared = prepared
        self._prepared_cost = sum(ticket.cost for ticket in prepared)
        self._may_prepare.notify_all()

    def _patience_s(self, batch: Batch, budget: int) -> float:
        """How long the idle device should wait for a better batch; 0: not at all.

        While the device was busy the oldest item has waited long enough, so this is about the first batch after a
        pause: nothing is gained by waiting unless more is being prepared, and little even then.
        """
        more_is_coming = self._preparing > 0 or self._has_turn()
        if batch.is_full(budget) or not more_is_coming:
            return 0.0
        return max(0.0, self._prepared[0].prepared_at + self._wait_s - time.monotonic())
