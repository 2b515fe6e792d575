"""Tenants and priorities take turns: which document a worker begins next, on in-memory stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingestion.errors import DependencyUnavailable
from ingestion.messages import Partition, Record
from ingestion.model import Document, DocumentState, Flow, IngestJob, Priority
from tests.memory import MemoryDocumentStore
from tests.support.memory_worker import MemoryWorker
from tests.support.waiting import settled, wait_for
from workers.attempt.offers import OfferRefused
from workers.consumer.admission import Admission
from workers.consumer.capacity import WeightedLimiter
from workers.consumer.loop import JobLoop
from workers.consumer.stragglers import Stragglers
from workers.consumer.turns import Turns
from workers.runtime.breaker import Breakers
from workers.runtime.urgency import is_urgent

BULK, CHAT = Priority.BULK, Priority.INTERACTIVE
PARTITION = ("pagemill.jobs", 0)


def order(turns: Turns, waiting: dict[Flow, int], pages: int, count: int) -> list[Flow]:
    """The first `count` turns, where each flow of `waiting` has that many documents of `pages` pages."""
    left, found = dict(waiting), []
    for _ in range(count):
        flow = turns.next_of([one for one, number in left.items() if number])
        turns.charge(flow, pages)
        left[flow] -= 1
        found.append(flow)
    return found


def test_tenants_of_a_priority_get_equal_pages_whatever_they_have_waiting() -> None:
    a, b = Flow(BULK, "a"), Flow(BULK, "b")
    assert order(Turns(), {a: 10_000, b: 3}, 2, 8) == [a, b, a, b, a, b, a, a]


def test_long_documents_use_up_a_turn_for_longer() -> None:
    turns, long, short = Turns(), Flow(BULK, "long"), Flow(BULK, "short")
    turns.charge(long, 100)
    turns.charge(short, 10)
    found = []
    for _ in range(10):
        found.append(turns.next_of([long, short]))
        turns.charge(found[-1], 10)
    assert found == [short] * 9 + [long]


def test_interactive_goes_first_and_bulk_keeps_a_fifth_of_the_pages() -> None:
    chat, bulk = Flow(CHAT, "a"), Flow(BULK, "a")
    turns = order(Turns(), {chat: 10_000, bulk: 10_000}, 2, 1000)
    assert turns[0] == chat
    assert turns.count(bulk) == 200
    assert max(len(run) for run in "".join("c" if one == chat else "b" for one in turns).split("b")) == 4


def test_the_share_of_a_priority_is_one_of_pages_and_not_of_documents() -> None:
    turns, chat, bulk = Turns(), Flow(CHAT, "a"), Flow(BULK, "a")
    pages = {chat: 2, bulk: 16}
    served = dict.fromkeys(pages, 0)
    for _ in range(3300):
        flow = turns.next_of(pages)
        turns.charge(flow, pages[flow])
        served[flow] += pages[flow]
    assert served[bulk] / sum(served.values()) == pytest.approx(0.2, abs=0.01)


def test_a_flow_that_begins_waits_for_no_backlog_and_has_no_credit_for_idle_time() -> None:
    turns, a, b = Turns(), Flow(BULK, "a"), Flow(BULK, "b")
    order(turns, {a: 1000}, 2, 1000)
    assert order(turns, {a: 1000, b: 1000}, 2, 4) == [b, a, b, a]


class Broker:
    """A consumer of one partition. Records that were not committed are read again by the next one."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self._next = 0
        self._is_paused = False
        self.committed = 0

    async def start(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None:
        self._next = self.committed
        await on_assigned({PARTITION})

    async def stop(self) -> None: ...

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        await asyncio.sleep(0.001)
        found = [] if self._is_paused else self._records[self._next :][:max_records]
        self._next += len(found)
        return [replace(one, timestamp_ms=1) for one in found]

    @property
    def is_read(self) -> bool:
        return self._next == len(self._records)

    @property
    def is_committed(self) -> bool:
        return self.committed == self._records[-1].offset + 1

    def assignment(self) -> set[Partition]:
        return {PARTITION}

    def pause_only(self, partitions: Collection[Partition]) -> None:
        self._is_paused = PARTITION in partitions

    async def commit(self, offsets: dict[Partition, int]) -> None:
        self.committed = offsets[PARTITION]

    def ends(self) -> dict[Partition, int]:
        return {}


class Claimed:
    """The document store. Notes the order of claims, and holds the worker after those that the test names."""

    def __init__(self, documents: MemoryDocumentStore) -> None:
        self._documents = documents
        self.order: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self.error: Exception | None = None
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    async def claim(self, document_id: str, owner: str, lease_ms: int, **given: str) -> Document:
        claimed = await self._documents.claim(document_id, owner, lease_ms, **given)
        self.order.append(document_id)
        if document_id in self.held:
            await self.held[document_id].wait()
        return claimed

    async def flows(self) -> Mapping[Flow, str]:
        await settled()
        self.looks += 1
        if self.error is not None:
            raise self.error
        return await self._documents.flows()


class Site:
    """Uploads of several tenants, their broker, and workers."""

    def __init__(self) -> None:
        self.worker = MemoryWorker()
        self.documents = Claimed(self.worker.documents)
        self.broker = Broker(self.worker.queue.jobs)
        self.refuse: Callable[[Record], None] = lambda record: None
        """May raise for a record, in place of the pipeline."""

    async def upload(self, *names: str, priority: Priority | None = BULK, pages: int = 1) -> None:
        """The tenant is what comes before the "-" of a name."""
        for name in names:
            tenant, _, _ = name.partition("-")
            uploaded = await self.worker.uploaded(name, pages, collection=f"{tenant}.c", priority=priority)
            await self.worker.queue.publish(IngestJob.of(uploaded))

    def hold(self, *names: str) -> None:
        self.documents.held |= {name: asyncio.Event() for name in names}

    async def take_elsewhere(self, name: str, delivery: str = "another record") -> None:
        """Let another worker process a document. Its claim names no record where it is one of an earlier release."""
        await self.documents.claim(name, "another", 3_600_000, delivery=delivery)

    async def looked(self) -> None:
        """Wait until the worker has looked for flows again, and had time to choose."""
        before = self.documents.looks
        await wait_for(lambda: self.documents.looks >= before + 3)

    def let_go(self) -> None:
        for event in self.documents.held.values():
            event.set()

    @asynccontextmanager
    async def working(self, broker: Broker | None = None, *, jobs_in_flight: int = 1) -> AsyncIterator[JobLoop]:
        """A worker with capacity for four short documents a job in flight, and a reserve. It calls `refuse` first."""
        pipeline = self.worker.pipeline_of(documents=self.documents)

        async def run(record: Record) -> None:
            self.refuse(record)
            await pipeline.run(record)

        breakers = Breakers({"mongodb": self.worker.documents.ping})
        limits = {"jobs_in_flight": jobs_in_flight, "max_ahead": 1000, "drain_s": 1}
        loop = JobLoop(broker or self.broker, run, breakers, **limits, flows=self.documents)
        task = asyncio.create_task(loop.run())
        watch = asyncio.create_task(breakers.watch(lambda: loop.is_idle))
        try:
            yield loop
        finally:
            loop.stop()
            await task
            watch.cancel()
            await breakers.stop()

    async def all_are_ready(self, loop: JobLoop) -> None:
        """Each document is ready, and no record is left. A worker that stops commits what it has finished."""

        def are_ready() -> bool:
            stored = self.worker.documents.state.documents.values()
            return all(one.document.state is DocumentState.READY for one in stored)

        await wait_for(are_ready)
        await wait_for(lambda: self.broker.is_read and loop.is_empty)

    def require_once(self) -> None:
        """Each record was finished, each document was claimed once, and its event was published once."""
        stored = self.worker.documents.state.documents
        assert self.broker.is_committed
        assert sorted(self.documents.order) == sorted(stored)
        assert {one.document.attempts for one in stored.values()} == {1}
        assert len(self.worker.queue.events) == len(stored)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("workers.consumer.admission._LOOK_EVERY_S", 0.01)
    return Site()


MANY = [f"a-{number:03}" for number in range(100)]


async def test_a_file_behind_many_of_another_tenant_begins_at_once(site: Site) -> None:
    await site.upload(*MANY)
    site.hold(*MANY)
    async with site.working() as loop:
        await wait_for(lambda: len(site.documents.order) == 4)
        await site.upload("b-1")
        await wait_for(lambda: "b-1" in site.documents.order)
        assert len(site.documents.order) == 5, "the documents of the other tenant still run"
        site.let_go()
        await site.all_are_ready(loop)
    site.require_once()


async def test_documents_that_pass_a_long_one_take_nothing_of_the_capacity_that_it_waits_for(site: Site) -> None:
    begun, others = MANY[:8], [f"t{number}-1" for number in range(8)]
    await site.upload(*begun)
    await site.upload("a-long", pages=16)
    site.hold(*begun, *others)
    async with site.working(jobs_in_flight=2) as loop:
        await wait_for(lambda: len(site.documents.order) == 8)
        await site.upload(*others)
        await wait_for(lambda: len(site.documents.order) == 12)
        await site.looked()
        assert len(site.documents.order) == 12, "four have passed: the reserve holds no more"
        for name in (*begun[:4], *others[4:]):
            site.documents.held[name].set()
        await wait_for(lambda: "a-long" in site.documents.order)
        site.let_go()
        await site.all_are_ready(loop)
    site.require_once()


async def test_a_chat_goes_before_the_bulk_of_its_own_tenant(site: Site) -> None:
    await site.upload(*MANY)
    await site.upload("a-chat", priority=CHAT)
    async with site.working() as loop:
        await site.all_are_ready(loop)
    assert "a-chat" in site.documents.order[:2]
    site.require_once()


async def test_bulk_goes_on_under_a_steady_stream_of_chats(site: Site) -> None:
    await site.upload(*(f"a-chat{number}" for number in range(50)), priority=CHAT)
    await site.upload(*(f"a-bulk{number}" for number in range(50)))
    async with site.working() as loop:
        await site.all_are_ready(loop)
    bulk = [name for name in site.documents.order[:50] if "bulk" in name]
    assert 8 <= len(bulk) <= 14
    site.require_once()


async def test_documents_that_workers_begun_and_lost_are_taken_up_by_the_next(site: Site) -> None:
    """The worker is killed: no offset is committed, no lease is released."""
    await site.upload(*MANY[:20])
    await site.upload("b-1", "b-2")
    site.hold(*MANY, "b-1", "b-2")
    async with site.working() as loop:
        await wait_for(lambda: {"b-1", "b-2"} <= set(site.documents.order))
        for job in loop._jobs:
            job.remove_done_callback(loop._done)
            job.cancel()
        await asyncio.gather(*loop._jobs, return_exceptions=True)
        loop._jobs.clear()
    assert site.broker.committed == 0
    site.worker.clock.advance(60)
    site.let_go()
    async with site.working() as loop:
        await site.all_are_ready(loop)
    stored = site.worker.documents.state.documents
    assert len(site.worker.queue.events) == len(stored)
    assert site.broker.is_committed


async def test_documents_of_earlier_releases_are_served_by_their_own_records(site: Site) -> None:
    await site.upload(*MANY[:20], priority=None)
    await site.upload("b-1", "b-2")
    async with site.working() as loop:
        await site.all_are_ready(loop)
    site.require_once()


async def test_a_document_that_a_worker_of_an_earlier_release_lost_is_served_by_its_own_record(site: Site) -> None:
    await site.upload("a-1")
    await site.take_elsewhere("a-1", delivery="")
    site.worker.clock.advance(3600)
    async with site.working() as loop:
        await site.all_are_ready(loop)
    assert site.broker.is_committed


async def test_two_workers_share_the_turns_and_no_document_is_begun_twice(site: Site) -> None:
    await site.upload(*MANY[:30])
    await site.upload("b-1", "b-2", "b-3")
    second = Broker(site.worker.queue.jobs[15:])
    site.broker = Broker(site.worker.queue.jobs[:15])
    async with site.working() as loop, site.working(second) as other:
        await site.all_are_ready(loop)
        await wait_for(lambda: second.is_read and other.is_empty)
    site.require_once()
    assert second.is_committed


async def test_an_outage_of_the_database_costs_no_record(site: Site) -> None:
    await site.upload(*MANY[:10])
    site.documents.error = DependencyUnavailable("mongodb", "down")
    async with site.working() as loop:
        await settled()
        site.documents.error = None
        await site.all_are_ready(loop)
    site.require_once()


async def test_a_collection_that_a_worker_cannot_serve_costs_the_records_of_others_one_try(site: Site) -> None:
    await site.upload(*MANY[:30])
    await site.upload("b-1", "b-2", "b-3")
    under_others = []

    def refuse(record: Record) -> None:
        if record.is_offer and record.job.collection == "b.c":
            if record.key != site.worker.queue.jobs[record.offset].key:
                under_others.append(record.job.document_id)
            raise OfferRefused("b.c")

    site.refuse = refuse
    async with site.working() as loop:
        await site.all_are_ready(loop)
    assert under_others and len(under_others) == len(set(under_others))
    site.require_once()


@pytest.mark.parametrize("collection", ["", "b.c"])
async def test_a_record_waits_for_a_document_that_was_refused(
    site: Site, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_AVOID_DOCUMENT_S", "_AVOID_COLLECTION_S"):
        monkeypatch.setattr(f"workers.consumer.admission.{name}", 0.3)
    await site.upload("b-1")
    site.worker.queue.jobs.clear()
    await site.upload("a-1")
    await site.take_elsewhere("a-1")
    refused = []

    def refuse(record: Record) -> None:
        if not refused or is_refused:
            refused.append(record.job.document_id)
            raise OfferRefused(collection)

    site.refuse, is_refused = refuse, True
    async with site.working() as loop:
        await wait_for(lambda: refused)
        await settled()
        assert refused == ["b-1"], "it is not offered again at once"
        await site.looked()
        assert Flow(BULK, "b") in await site.documents.flows(), "other workers may serve it"
        is_refused = False
        await wait_for(lambda: "b-1" in site.documents.order)
        await wait_for(lambda: loop.is_empty)
    assert site.broker.is_committed


async def test_a_record_needs_no_work_where_its_document_was_taken_and_none_waits(site: Site) -> None:
    await site.upload("a-1")
    await site.take_elsewhere("a-1")
    assert await site.documents.flows()
    async with site.working() as loop:
        await wait_for(lambda: site.broker.is_read and loop.is_empty)
    assert site.broker.is_committed
    assert await site.documents.flows() == {}, "no worker asks for documents of the flow again"


async def test_a_document_that_a_person_waits_for_or_alone_of_its_flow_goes_first(site: Site) -> None:
    await site.upload("a-1", "a-2", "b-1")
    await site.upload("c-1", "c-2", priority=CHAT)
    admission, found, end = Admission(WeightedLimiter(2), site.documents), {}, asyncio.Event()

    async def run(record: Record) -> None:
        async with admission.admit(replace(record, timestamp_ms=1)):
            found[record.job.document_id] = is_urgent()
            await end.wait()

    tasks = [asyncio.create_task(run(record)) for record in site.worker.queue.jobs]
    await wait_for(lambda: len(found) == len(tasks))
    end.set()
    await asyncio.gather(*tasks)
    assert [name for name, is_first in found.items() if not is_first] == ["a-2"]


async def test_an_unforeseen_error_ends_in_the_record_that_waits_longest(site: Site) -> None:
    await site.upload("a-1", "a-2")
    admission = Admission(WeightedLimiter(1), site.documents)
    site.documents.error = KeyError("unforeseen")

    async def run(record: Record) -> str:
        async with admission.admit(replace(record, timestamp_ms=1)) as begun:
            return begun.job.document_id if begun else ""

    first, second = [asyncio.create_task(run(record)) for record in site.worker.queue.jobs]
    first.add_done_callback(lambda _: setattr(site.documents, "error", None))
    async with asyncio.timeout(10):
        with pytest.raises(KeyError, match="unforeseen"):
            await first
        assert await second == "a-2"


async def test_an_idle_worker_publishes_a_document_whose_record_is_gone(site: Site) -> None:
    await site.upload("a-1")
    site.worker.queue.jobs.clear()
    stragglers = Stragglers(site.documents, site.worker.queue, lambda: True)
    assert await stragglers.publish() == 0, "it may be under way"
    site.worker.documents.state.documents["a-1"].document = replace(
        await site.worker.documents.get("a-1"), updated_at=datetime.now(UTC) - timedelta(minutes=2)
    )
    assert await stragglers.publish() == 1
    assert site.worker.queue.job_ids == ["a-1"]
    assert await stragglers.publish() == 0
    async with site.working() as loop:
        await site.all_are_ready(loop)
    assert site.broker.is_committed
