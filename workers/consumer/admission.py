"""Lets records begin: which one is next, for which document, and when there is capacity.

Records wait here until this worker has capacity. The flow whose turn it is gets it, see `turns`. Its next document is
that of a waiting record, or else one that the database shows, and then a waiting record of another flow stands for it.

A flow without running documents may use a reserve of capacity, so that it waits for no long document of another flow.
Its first document is urgent, as interactive documents are: the device takes their pages first.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ingestion.errors import IngestError
from ingestion.messages import Record
from ingestion.model import Flow, Priority
from ingestion.ports import Flows
from workers.consumer.capacity import HeldCapacity, WeightedLimiter, weight_of
from workers.consumer.delivery import Delivery, Standing, delivery_of
from workers.consumer.turns import Turns
from workers.runtime.urgency import urgency

log = structlog.get_logger(__name__)

_LOOK_EVERY_S: Final = 0.25
"""How often flows are read while records wait. A flow that begins is noticed so late."""
_AVOID_DOCUMENT_S: Final = 2.0
_AVOID_COLLECTION_S: Final = 10.0
_CANDIDATES: Final = 8


@dataclass(eq=False)
class _Waiter:
    delivery: Delivery
    turn: asyncio.Future[_Turn]


@dataclass(frozen=True, slots=True)
class _Turn:
    """`record` is None where the waiting record needs no work. `capacity` is held then neither."""

    record: Record | None
    flow: Flow
    capacity: HeldCapacity | None = None
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class _Next:
    waiter: _Waiter
    record: Record
    flow: Flow

    @property
    def weight(self) -> int:
        return weight_of(_pages_of(self.record))


class Admission:
    """The admission of one worker. `flows`: None where each record serves its own document alone."""

    def __init__(self, limiter: WeightedLimiter, flows: Flows | None = None) -> None:
        self._limiter = limiter
        self._flows = flows
        self._turns = Turns()
        self._waiting: list[_Waiter] = []
        self._running: Counter[Flow] = Counter()
        self._documents: Counter[str] = Counter()
        """The documents that run."""
        self._head: _Next | None = None
        """The next one, which waits for capacity. A flow without running documents may pass it."""
        self._marks: dict[Flow, str] = {}
        self._looked_at = 0.0
        self._avoided: dict[str, float] = {}
        """Until when a document, or a collection, is not taken in place of a record's own document."""
        self._changed = asyncio.Event()
        self._chooser: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def admit(self, record: Record, *, was_refused: bool = False) -> AsyncIterator[Record | None]:
        """Wait for a turn and for capacity, and hold the capacity during the block.

        Yields the record to run, which may stand for another document; None where `record` needs no more work.
        Raises DependencyUnavailable.
        """
        delivery = await delivery_of(self._flows, record, was_refused=was_refused)
        turn = await self._wait(delivery)
        if turn.record is None or turn.capacity is None:
            yield None
            return
        try:
            with turn.capacity.held_by_this_job(), urgency(urgent=turn.is_urgent):
                yield turn.record
        finally:
            self._leave(turn)

    async def close(self) -> None:
        """End the choosing. The tasks that wait have been cancelled."""
        if self._chooser is not None:
            self._chooser.cancel()
            await asyncio.gather(self._chooser, return_exceptions=True)

    def refuse(self, record: Record, collection: str = "") -> None:
        """The document of an offered record was not taken: offer another one for some seconds."""
        now = time.monotonic()
        self._avoided = {name: until for name, until in self._avoided.items() if until > now}
        if collection:
            self._avoided[collection] = now + _AVOID_COLLECTION_S
        else:
            self._avoided[_document_of(record)] = now + _AVOID_DOCUMENT_S

    async def _wait(self, delivery: Delivery) -> _Turn:
        waiter = _Waiter(delivery, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._changed.set()
        if self._chooser is None or self._chooser.done():
            self._chooser = asyncio.create_task(self._choose_all())
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._changed.set()
            elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._give_back(waiter.turn.result())
            raise

    def _give_back(self, turn: _Turn) -> None:
        if turn.capacity is not None:
            turn.capacity.close()
            self._leave(turn)

    def _leave(self, turn: _Turn) -> None:
        self._running -= Counter([turn.flow])
        self._documents -= Counter([_document_of(turn.record)])
        self._changed.set()

    async def _choose_all(self) -> None:
        """Give turns until no record waits. `admit` of the record that waits longest raises an error that comes up."""
        while self._still_waiting():
            self._changed.clear()
            self._limiter.freed.clear()
            try:
                await self._look()
                has_chosen = await self._choose()
            except Exception as error:  # noqa: BLE001 - raised by `admit`: the other records wait on
                if waiting := self._still_waiting():
                    waiter = waiting[0]
                    self._waiting.remove(waiter)
                    waiter.turn.set_exception(error)
                else:
                    log.warning("no turn given, and no record waits any more", cause=str(error))
                continue
            if not has_chosen:
                await self._until_changed()

    def _still_waiting(self) -> list[_Waiter]:
        """The records that wait, without those whose task was cancelled a moment ago."""
        self._waiting = [one for one in self._waiting if not one.turn.done()]
        if self._head is not None and self._head.waiter not in self._waiting:
            self._head = None
        return self._waiting

    async def _until_changed(self) -> None:
        events = [asyncio.ensure_future(one.wait()) for one in (self._changed, self._limiter.freed)]
        try:
            await asyncio.wait(events, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in events:
                one.cancel()

    async def _look(self) -> None:
        now = time.monotonic()
        if self._flows is not None and now - self._looked_at >= _LOOK_EVERY_S:
            self._marks = dict(await self._flows.flows())
            self._looked_at = time.monotonic()

    async def _choose(self) -> bool:
        """Give one record its turn. Returns False where none can have one now."""
        if self._head is None and self._limiter.fits(weight_of(1)):
            self._head = await self._next(self._wanted())
            if self._head is None:
                return self._end_free_records()
        for of_reserve in (False, True):
            if self._head is not None and self._may_begin(self._head, of_reserve=of_reserve):
                chosen, self._head = self._head, None
                self._begin(chosen, of_reserve=of_reserve)
                return True
        newcomers = [flow for flow in self._wanted() if not self._running[flow]]
        if newcomers and self._limiter.fits(weight_of(1), of_reserve=True):
            found = await self._next(newcomers)
            if found is not None and self._may_begin(found, of_reserve=True):
                self._begin(found, of_reserve=True)
                return True
        return False

    def _may_begin(self, one: _Next, *, of_reserve: bool) -> bool:
        is_allowed = not (of_reserve and self._running[one.flow])
        return is_allowed and self._limiter.fits(one.weight, of_reserve=of_reserve)

    def _wanted(self) -> set[Flow]:
        own = {one.delivery.flow for one in self._waiting if one.delivery.standing is not Standing.FREE}
        return own | self._marks.keys() if self._may_serve_others() else own

    def _may_serve_others(self) -> bool:
        return any(one.delivery.standing is not Standing.BOUND for one in self._waiting)

    async def _next(self, wanted: Iterable[Flow]) -> _Next | None:
        """The next record of the flow whose turn it is, of those of `wanted` that have one."""
        flows = set(wanted)
        while flows:
            flow = self._turns.next_of(flows)
            if (found := self._own(flow) or await self._other(flow)) is not None:
                return found
            flows.discard(flow)
        return None

    def _own(self, flow: Flow) -> _Next | None:
        for waiter in self._waiting:
            delivery = waiter.delivery
            is_own = delivery.flow == flow and delivery.standing is not Standing.FREE
            if is_own and not (self._head is not None and self._head.waiter is waiter):
                is_offer = delivery.standing is Standing.OPEN
                return _Next(waiter, replace(delivery.record, is_offer=is_offer), flow)
        return None

    async def _other(self, flow: Flow) -> _Next | None:
        """A document of `flow` that the database shows, for a record whose own document is taken, or can wait."""
        if self._flows is None or flow not in self._marks:
            return None
        now = time.monotonic()
        avoided = {name for name, until in self._avoided.items() if until > now}
        taken = avoided | self._documents.keys()
        mark, limit = self._marks[flow], _CANDIDATES + len(taken)
        candidates = await self._flows.next_waiting(flow, limit, without_collections=avoided)
        if not candidates:
            self._marks.pop(flow, None)
            if not avoided:
                await self._flows.retire_flow(flow, mark)
            return None
        document = next((one for one in candidates if one.id not in taken), None)
        waiters = [one for one in self._waiting if self._head is None or one is not self._head.waiter]
        for standing in (Standing.FREE, Standing.OPEN):
            waiter = next((one for one in waiters if one.delivery.standing is standing), None)
            if document is not None and waiter is not None:
                record = replace(waiter.delivery.record.standing_for(document), is_offer=True)
                return _Next(waiter, record, flow)
        return None

    def _begin(self, chosen: _Next, *, of_reserve: bool = False) -> None:
        if chosen.waiter not in self._still_waiting():  # it was cancelled while the database was asked
            return
        self._waiting.remove(chosen.waiter)
        is_urgent = chosen.flow.priority is Priority.INTERACTIVE or not self._running[chosen.flow]
        self._running[chosen.flow] += 1
        self._documents[_document_of(chosen.record)] += 1
        self._turns.charge(chosen.flow, _pages_of(chosen.record) or weight_of(0))
        capacity = self._limiter.take(chosen.weight, of_reserve=of_reserve)
        chosen.waiter.turn.set_result(_Turn(chosen.record, chosen.flow, capacity, is_urgent))

    def _end_free_records(self) -> bool:
        """No document waits: the records whose own documents were taken need no work.

        A document that this worker avoids waits, and may need them.
        """
        if any(until > time.monotonic() for until in self._avoided.values()):
            return False
        free = [one for one in self._still_waiting() if one.delivery.standing is Standing.FREE]
        for waiter in free:
            self._waiting.remove(waiter)
            waiter.turn.set_result(_Turn(None, waiter.delivery.flow))
        return bool(free)


def _pages_of(record: Record) -> int:
    """0 where the record does not say, or is no job."""
    with suppress(IngestError):
        return record.job.pages
    return 0


def _document_of(record: Record | None) -> str:
    """ "" for a record that is no job."""
    with suppress(IngestError):
        return record.job.document_id if record is not None else ""
    return ""
