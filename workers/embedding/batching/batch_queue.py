"""Where items wait: for preparation first, then for the device. Shared by threads; the `take` methods block."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic

from ingestion.errors import IngestError
from workers.embedding.batching.backlog import Call, Queue, Ticket
from workers.embedding.batching.grouping import Batch, Chooser, UrgentFirst
from workers.embedding.batching.stages import ItemT, PreparedT


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
    """Two queues: what is urgent is prepared before the rest, and shares its batches with nothing that is not.

    So an urgent item waits for the batch under way and for urgent ones before it. The rest gets on as `UrgentFirst`
    says. In either queue no more is prepared while what waits for the device costs `room` or more.
    """

    def __init__(self, *, room: int, wait_s: float, choose: Chooser) -> None:
        self._wait_s: Final = wait_s
        self._choose = choose
        self._lock = threading.Lock()
        self._may_prepare = threading.Condition(self._lock)
        self._may_batch = threading.Condition(self._lock)
        self._open: set[Call[ItemT]] = set()
        self._urgent = Queue[ItemT, PreparedT](room)
        self._rest = Queue[ItemT, PreparedT](room)
        self._prepare_order = UrgentFirst()
        self._batch_order = UrgentFirst()
        self._next_number = 0
        self._closed = False

    def enter(self, call: Call[ItemT]) -> bool:
        """False where the line is closed."""
        with self._lock:
            if not self._closed:
                self._open.add(call)
                self._queue_of(call).enter(call)
                self._may_prepare.notify_all()
            return not self._closed

    def leave(self, call: Call[ItemT]) -> None:
        """Forget what is left of the call, if anything."""
        with self._lock:
            self._open.discard(call)
            self._queue_of(call).forget(call)
            self._may_prepare.notify_all()
            self._may_batch.notify_all()

    def take_item(self) -> tuple[Ticket[ItemT, PreparedT], ItemT] | None:
        """The next item to prepare, in turn, once there is room; None when the line is closed.

        It has to be followed by `put` or `spoiled`.
        """
        with self._lock:
            self._may_prepare.wait_for(lambda: self._closed or self._urgent.may_prepare or self._rest.may_prepare)
            if self._closed:
                return None
            urgent, rest = self._urgent.may_prepare, self._rest.may_prepare
            is_urgent = self._prepare_order.is_urgent_next(urgent=urgent, rest=rest)
            self._prepare_order.took(urgent=is_urgent, rest_waits=rest)
            self._next_number += 1
            return (self._urgent if is_urgent else self._rest).next_item(self._next_number)

    def put(self, ticket: Ticket[ItemT, PreparedT], prepared: PreparedT) -> None:
        """The item waits for the device now, unless its call has left."""
        with self._lock:
            self._queue_of(ticket.call).preparing -= 1
            ticket.prepared, ticket.prepared_at = prepared, time.monotonic()
            self._insert(ticket)

    def spoiled(self, ticket: Ticket[ItemT, PreparedT]) -> None:
        """An item that was taken could not be prepared."""
        with self._lock:
            self._queue_of(ticket.call).preparing -= 1
            self._may_batch.notify()

    def take_batch(self, budget: int) -> Load[ItemT, PreparedT] | None:
        """The next batch, when it is time; None when the line is closed."""
        with self._lock:
            while not self._closed:
                queue = self._next_queue()
                batch = self._choose([ticket.cost for ticket in queue.prepared], budget) if queue.prepared else None
                rest_s = self._patience_s(queue, batch, budget) if batch else None
                if batch and not rest_s:
                    return self._take(queue, batch, budget)
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
            self._urgent.clear()
            self._rest.clear()
            return left

    def _queue_of(self, call: Call[ItemT]) -> Queue[ItemT, PreparedT]:
        return self._urgent if call.urgent else self._rest

    def _next_queue(self) -> Queue[ItemT, PreparedT]:
        """The queue that the next batch is made of, possibly an empty one."""
        urgent, rest = bool(self._urgent.prepared), bool(self._rest.prepared)
        return self._urgent if self._batch_order.is_urgent_next(urgent=urgent, rest=rest) else self._rest

    def _insert(self, ticket: Ticket[ItemT, PreparedT]) -> None:
        if ticket.call in self._open:
            self._queue_of(ticket.call).insert(ticket)
        self._may_batch.notify()

    def _take(self, queue: Queue[ItemT, PreparedT], batch: Batch, budget: int) -> Load[ItemT, PreparedT]:
        now = time.monotonic()
        tickets = queue.take(batch)
        self._batch_order.took(urgent=queue is self._urgent, rest_waits=bool(self._rest.prepared))
        self._may_prepare.notify_all()
        if self._urgent.prepared or self._rest.prepared:
            self._may_batch.notify()  # another idle device may have them
        return Load(tickets, batch.cost, batch.is_full(budget), [now - ticket.prepared_at for ticket in tickets])

    def _patience_s(self, queue: Queue[ItemT, PreparedT], batch: Batch, budget: int) -> float:
        """How long the idle device should wait for a better batch; 0: not at all.

        While the device was busy the oldest item has waited long enough, so this is about the first batch after a
        pause: nothing is gained by waiting unless more is being prepared, and little even then.
        """
        if batch.is_full(budget) or not queue.expects_more:
            return 0.0
        return max(0.0, queue.prepared[0].prepared_at + self._wait_s - time.monotonic())
