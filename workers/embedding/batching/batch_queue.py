"""The queue of the batcher: items wait for preparation, then for the device. Threads share it; `take_*` blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic

from ingestion.errors import IngestError
from workers.embedding.batching.backlog import Backlog, Call, WorkItem
from workers.embedding.batching.grouping import BatchPlan, Chooser, UrgentFirst
from workers.embedding.batching.stages import ItemT, PreparedT


@dataclass(frozen=True, slots=True)
class Batch(Generic[ItemT, PreparedT]):
    """Work items taken from the queue together.

    `cost` includes padding. `is_full`: one more item as large as the largest would exceed the limit. `waited_s`: for
    each item, seconds between its preparation and now.
    """

    work_items: list[WorkItem[ItemT, PreparedT]]
    cost: int
    is_full: bool
    waited_s: list[float]

    @property
    def prepared(self) -> list[PreparedT]:
        return [work_item.prepared for work_item in self.work_items]

    @property
    def padding(self) -> int:
        return self.cost - sum(work_item.cost for work_item in self.work_items)

    def fail(self, error: IngestError) -> None:
        """Make every call with an item in this batch raise `error`."""
        for call in {work_item.call for work_item in self.work_items}:
            call.fail(error)


class BatchQueue(Generic[ItemT, PreparedT]):
    """Two backlogs: urgent items and the rest. A batch holds items of one backlog only.

    An urgent item waits for the running batch and for earlier urgent items. `UrgentFirst` keeps the rest moving. Each
    backlog stops preparing while its prepared items cost `max_prepared_cost` or more.
    """

    def __init__(self, *, max_prepared_cost: int, wait_s: float, choose: Chooser) -> None:
        self._wait_s: Final = wait_s
        self._choose = choose
        self._lock = threading.Lock()
        self._may_prepare = threading.Condition(self._lock)
        self._may_batch = threading.Condition(self._lock)
        self._open_calls: set[Call[ItemT]] = set()
        self._urgent = Backlog[ItemT, PreparedT](max_prepared_cost)
        self._rest = Backlog[ItemT, PreparedT](max_prepared_cost)
        self._prepare_order = UrgentFirst()
        self._batch_order = UrgentFirst()
        self._next_number = 0
        self._closed = False

    def add_call(self, call: Call[ItemT]) -> bool:
        """Return False, and add nothing, after `close`."""
        with self._lock:
            if not self._closed:
                self._open_calls.add(call)
                self._backlog_of(call).add_call(call)
                self._may_prepare.notify_all()
            return not self._closed

    def drop_call(self, call: Call[ItemT]) -> None:
        """Drop the remaining items of the call. Safe to repeat."""
        with self._lock:
            self._open_calls.discard(call)
            self._backlog_of(call).drop_call(call)
            self._may_prepare.notify_all()
            self._may_batch.notify_all()

    def take_item(self) -> tuple[WorkItem[ItemT, PreparedT], ItemT] | None:
        """Wait for an item to prepare and return it; None after `close`.

        The caller must then call `put` or `failed` for it.
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

    def put(self, work_item: WorkItem[ItemT, PreparedT], prepared: PreparedT) -> None:
        """Queue a prepared item for the device. An item of a dropped call is dropped."""
        with self._lock:
            self._backlog_of(work_item.call).preparing -= 1
            work_item.prepared, work_item.prepared_at_s = prepared, time.monotonic()
            self._insert(work_item)

    def failed(self, work_item: WorkItem[ItemT, PreparedT]) -> None:
        """Report that the preparation of a taken item failed."""
        with self._lock:
            self._backlog_of(work_item.call).preparing -= 1
            self._may_batch.notify()

    def take_batch(self, max_cost: int) -> Batch[ItemT, PreparedT] | None:
        """Wait for the next batch and return it; None after `close`."""
        with self._lock:
            while not self._closed:
                backlog = self._next_backlog()
                costs = [work_item.cost for work_item in backlog.prepared]
                plan = self._choose(costs, max_cost) if costs else None
                wait_s = self._wait_for_more_s(backlog, plan, max_cost) if plan else None
                if plan and not wait_s:
                    return self._take(backlog, plan, max_cost)
                self._may_batch.wait(wait_s)
            return None

    def put_back(self, work_items: Sequence[WorkItem[ItemT, PreparedT]]) -> None:
        """Return taken items to their old places in the queue."""
        with self._lock:
            for work_item in work_items:
                self._insert(work_item)

    def close(self) -> set[Call[ItemT]]:
        """Refuse calls and items from now on. Returns the calls that still lack vectors."""
        with self._lock:
            self._closed = True
            self._may_prepare.notify_all()
            self._may_batch.notify_all()
            unfinished, self._open_calls = self._open_calls, set()
            self._urgent.clear()
            self._rest.clear()
            return unfinished

    def _backlog_of(self, call: Call[ItemT]) -> Backlog[ItemT, PreparedT]:
        return self._urgent if call.urgent else self._rest

    def _next_backlog(self) -> Backlog[ItemT, PreparedT]:
        """The backlog that supplies the next batch. It may have no prepared items."""
        urgent, rest = bool(self._urgent.prepared), bool(self._rest.prepared)
        return self._urgent if self._batch_order.is_urgent_next(urgent=urgent, rest=rest) else self._rest

    def _insert(self, work_item: WorkItem[ItemT, PreparedT]) -> None:
        if work_item.call in self._open_calls:
            self._backlog_of(work_item.call).insert(work_item)
        self._may_batch.notify()

    def _take(self, backlog: Backlog[ItemT, PreparedT], plan: BatchPlan, max_cost: int) -> Batch[ItemT, PreparedT]:
        now_s = time.monotonic()
        work_items = backlog.take(plan)
        self._batch_order.took(urgent=backlog is self._urgent, rest_waits=bool(self._rest.prepared))
        self._may_prepare.notify_all()
        if self._urgent.prepared or self._rest.prepared:
            self._may_batch.notify()  # another idle forward thread may take them
        waited_s = [now_s - work_item.prepared_at_s for work_item in work_items]
        return Batch(work_items, plan.cost, plan.is_full(max_cost), waited_s)

    def _wait_for_more_s(self, backlog: Backlog[ItemT, PreparedT], plan: BatchPlan, max_cost: int) -> float:
        """Seconds that an idle device should wait for a fuller batch; 0 for none.

        Waiting helps only while more items are being prepared. After a busy device the oldest item has usually waited
        `wait_s` already, so this delays only the first batch after a pause.
        """
        if plan.is_full(max_cost) or not backlog.expects_more:
            return 0.0
        return max(0.0, backlog.prepared[0].prepared_at_s + self._wait_s - time.monotonic())
