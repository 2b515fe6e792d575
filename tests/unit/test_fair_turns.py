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
from workers.consumer.admission import Admission
from workers.consumer.capacity import WeightedLimiter
from workers.consumer.loop import JobLoop
from workers.consumer.stragglers import Stragglers
from workers.consumer.turns import Turns
from workers.runtime.breaker import Breakers

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
        if self.error is not None:
            raise self.error
        return await self._documents.flows()


class Site:
    """Uploads of several tenants, their broker, and workers."""

    def __init__(self) -> None:
        self.worker = MemoryWorker()
        self.documents = Claimed(self.worker.documents)
        self.broker = Broker(self.worker.queue.jobs)

    async def upload(self, *names: str, priority: Priority | None = BULK, pages: int = 1) -> None:
        """The tenant is what comes before the "-" of a name."""
        for name in names:
            tenant, _, _ = name.partition("-")
            uploaded = await self.worker.uploaded(name, pages, collection=f"{tenant}.c", priority=priority)
            await self.worker.queue.publish(IngestJob.of(uploaded))

    def hold(self, *names: str) -> None:
        self.documents.held |= {name: asyncio.Event() for name in names}

    def let_go(self) -> None:
        for event in self.documents.held.values():
            event.set()

    @asynccontextmanager
    async def working(self, broker: Broker | None = None) -> AsyncIterator[JobLoop]:
        """A worker that has capacity for four short documents, and a reserve."""
        run = self.worker.pipeline_of(documents=self.documents).run
        breakers = Breakers({"mongodb": self.worker.documents.ping})
        limits = {"jobs_in_flight": 1, "max_ahead": 1000, "drain_s": 1}
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
def site() -> Site:
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
    await site.upload(*MANY[:4])
    await site.upload("a-long", pages=16)
    site.hold(*MANY, *(f"t{number}-1" for number in range(8)))
    async with site.working() as loop:
        await wait_for(lambda: len(site.documents.order) == 4)
        await site.upload(*(f"t{number}-1" for number in range(8)))
        await wait_for(lambda: len(site.documents.order) == 8)
        await settled()
        assert len(site.documents.order) == 8, "four have passed: the reserve holds no more"
        for name in (*MANY[:4], *(f"t{number}-1" for number in range(4, 8))):
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
    await site.upload(*MANY[:6], priority=None)
    await site.upload("b-1", "b-2")
    async with site.working() as loop:
        await site.all_are_ready(loop)
    site.require_once()


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
