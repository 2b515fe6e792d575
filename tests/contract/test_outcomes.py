"""A failed attempt leads to a later attempt, or to one complete dead letter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.bootstrap import DocumentStore, Services
from ingestion.dead_letters import DeadLetter
from ingestion.errors import CorruptPdf, DependencyUnavailable, IngestError, LeaseHeld, WorkerFault
from ingestion.messages import Record
from ingestion.model import Document, DocumentState, Failure, Page, Vectors
from tests.support.pipelines import (
    DEADLINE_S,
    ScriptedEmbedder,
    Without,
    claim_and_die,
    job,
    pipeline,
    read,
    submitted,
)

S = DocumentState
SHORT_LEASE_S = 0.6


async def letters_of(services: Services) -> list[DeadLetter]:
    return [letter async for letter in services.dead_letters.read()]


@asynccontextmanager
async def consumer(services: Services) -> AsyncIterator[JobConsumer]:
    async def ignore(partitions: object) -> None: ...

    consumer = JobConsumer(services.settings.kafka, "test")
    await consumer.start(ignore, ignore)
    try:
        yield consumer
    finally:
        await consumer.stop()


async def retried(services: Services) -> Record:
    """The first record on any retry topic."""
    topics = services.settings.kafka.retry_topics.values()
    async with consumer(services) as reader, asyncio.timeout(DEADLINE_S):
        while True:
            for record in await reader.poll(10, 100):
                if record.partition[0] in topics:
                    return record


def faulty(message: str = "a bug") -> ScriptedEmbedder:
    embedder = ScriptedEmbedder()
    embedder.fault = WorkerFault(message)
    return embedder


@pytest.mark.each_broker
async def test_a_fault_publishes_the_record_to_the_retry_topic_with_its_bytes_untouched(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=1)
    await pipeline(services, faulty()).run(job(document))
    waiting = await read(services, document)
    assert (waiting.state, waiting.attempts) == (S.QUEUED, 1)
    assert waiting.error is not None
    assert (waiting.error.code, waiting.error.stage, waiting.error.message) == ("internal", "embed", "a bug")
    record = await retried(services)
    original = job(document)
    assert record.partition[0] == services.settings.kafka.retry_topics[10]
    assert (record.key, record.value) == (original.key, original.value)
    assert record.origin == original.origin
    assert 0 < record.due_in_s <= 10
    assert await letters_of(services) == []


async def test_a_postponed_document_is_not_claimed_before_its_time(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=1)
    await pipeline(services, faulty()).run(job(document))
    healthy = ScriptedEmbedder()
    with pytest.raises(LeaseHeld) as held:
        await pipeline(services, healthy).run(job(document))
    assert 5 < held.value.retry_in_s <= 10
    assert healthy.seen == []


@pytest.mark.each_broker
async def test_after_the_last_attempt_there_is_one_letter_that_says_everything(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "ü.pdf", pages=1)
    for _ in range(4):
        await claim_and_die(services, document)
    await run_when_free(services, document, faulty("the fifth"))
    failed = await read(services, document)
    assert (failed.state, failed.attempts, failed.letter) == (S.FAILED, 5, "sent")
    [letter] = await letters_of(services)
    original = job(document)
    assert (letter.key, letter.value, letter.origin) == (original.key, original.value, original.origin)
    assert letter.headers == original.headers
    assert letter.group == services.settings.kafka.kafka_group
    assert (letter.document_id, letter.fence, letter.delivery_count) == (document.id, failed.fence, 5)
    assert (letter.failure.code, letter.failure.stage, letter.failure.message) == ("internal", "embed", "the fifth")
    assert letter.exception_class == "ingestion.errors.WorkerFault"
    assert "embed_pages" in letter.stacktrace
    events = [event.event for event in await services.documents.history(document.id)]
    assert events == ["claimed"] * 5 + ["failed"]


@pytest.mark.each_broker
async def test_a_permanent_error_is_a_dead_letter_at_once(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "broken.pdf", pages=1)
    await services.blobs.put(document.object_key, b"%PDF-1.4 nothing", "application/pdf")
    await pipeline(services, ScriptedEmbedder()).run(job(document))
    [letter] = await letters_of(services)
    assert (letter.failure.code, letter.delivery_count) == ("corrupt_pdf", 1)


@pytest.mark.each_broker
async def test_a_record_that_is_no_job_is_a_letter_with_the_same_bytes(services: Services) -> None:
    record = Record(("jobs", 1), 7, b"\x00key", b"\xff no job", (("theirs", b"\x01"),))
    await pipeline(services, ScriptedEmbedder()).run(record)
    [letter] = await letters_of(services)
    assert (letter.key, letter.value, letter.headers) == (record.key, record.value, record.headers)
    assert (letter.id, letter.failure.code, letter.document_id) == ("jobs-1-7", "bad_message", "")


@pytest.mark.each_broker
async def test_a_letter_lost_in_a_crash_is_published_once_when_the_job_is_redelivered(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "broken.pdf", pages=1)
    await services.blobs.put(document.object_key, b"%PDF-1.4 nothing", "application/pdf")
    healthy = pipeline(services, ScriptedEmbedder())
    dying = Without(services.queue, "publish_dead_letter")
    with pytest.raises(WorkerFault, match="publish_dead_letter"):
        await pipeline(services, ScriptedEmbedder(), queue=dying).run(job(document))
    assert (await read(services, document)).letter == "pending"
    assert await letters_of(services) == []
    await healthy.run(job(document))
    await healthy.run(job(document))
    assert (await read(services, document)).letter == "sent"
    assert len(await letters_of(services)) == 1


async def test_an_attempt_that_an_outage_of_the_database_ended_is_not_counted(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    document = await submitted(services, tmp_path / "a.pdf", pages=1)
    embedder = ScriptedEmbedder()
    embedder.fail_once_at = 1
    documents = Without(services.documents, "release", DependencyUnavailable("mongodb", "down"))
    worker = pipeline(services, embedder, documents=cast(DocumentStore, documents))
    with pytest.raises(DependencyUnavailable):
        await worker.run(job(document))
    assert (await read(services, document)).attempts == 1, "the release failed, so the attempt counts"
    documents.missing = ""
    await worker.run(job(document))
    ready = await read(services, document)
    assert (ready.state, ready.attempts) == (S.READY, 1)


async def test_a_lease_that_could_not_be_extended_for_an_outage_costs_no_attempt(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=1)
    embedder = ScriptedEmbedder()
    embedder.hold_at = 1
    documents = Without(services.documents, "extend", DependencyUnavailable("mongodb", "down"))
    worker = pipeline(services, embedder, documents=cast(DocumentStore, documents), lease_s=0.5)
    with pytest.raises(DependencyUnavailable, match="mongodb"):
        await worker.run(job(document))
    queued = await read(services, document)
    assert (queued.state, queued.attempts, embedder.seen) == (S.QUEUED, 0, [])


async def test_a_worker_that_stood_still_past_its_lease_writes_nothing_and_claims_again(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=1)
    still = StandsStill()
    worker = pipeline(services, still, lease_s=0.5)
    with pytest.raises(LeaseHeld):
        await worker.run(job(document))
    rows = await services.vectors.count_rows(document.collection, document.first_page_key, document.pages)
    assert (rows, (await read(services, document)).pages_done) == (0, 0)
    await run_when_free(services, document, ScriptedEmbedder())
    ready = await read(services, document)
    assert (ready.state, ready.attempts) == (S.READY, 2)


class StandsStill(ScriptedEmbedder):
    """Blocks the whole process, like a SIGSTOP."""

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        time.sleep(1.0)
        return await super().embed_pages(pages)


async def test_the_last_attempt_is_made_alone(services: Services, tmp_path: Path) -> None:
    embedder = ScriptedEmbedder()
    embedder.hold_at = 2
    neighbour = await submitted(services, tmp_path / "two.pdf", pages=2)
    suspect = await submitted(services, tmp_path / "one.pdf", pages=1)
    for _ in range(4):
        await claim_and_die(services, suspect)
    worker = pipeline(services, embedder)
    async with asyncio.timeout(DEADLINE_S):
        beside = asyncio.create_task(worker.run(job(neighbour)))
        await embedder.holding.wait()
        last = asyncio.create_task(worker.run(job(suspect)))
        while not worker.document_lock.is_exclusive_wanted:
            await asyncio.sleep(0.01)
        assert (await read(services, suspect)).attempts == 4, "not begun while another job holds the lock"
        embedder.go_on.set()
        await asyncio.gather(beside, last)
    assert (await read(services, suspect)).attempts == 5
    assert {(await read(services, one)).state for one in (neighbour, suspect)} == {S.READY}


class AnswersLate:
    """A ledger that answers a while after it has recorded an outcome. Heartbeats would come in between."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    async def finish(self, document: Document) -> Document:
        finished = await self._documents.finish(document)
        await asyncio.sleep(SHORT_LEASE_S)
        return finished

    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        failed = await self._documents.fail(document_id, fence, failure)
        await asyncio.sleep(SHORT_LEASE_S)
        return failed


@pytest.mark.parametrize("fault", [None, CorruptPdf("page 1")], ids=["ready", "failed"])
async def test_a_heartbeat_during_the_outcome_is_not_a_lost_lease(
    services: Services, tmp_path: Path, fault: IngestError | None
) -> None:
    document = await submitted(services, tmp_path / "one.pdf", pages=1)
    embedder = ScriptedEmbedder()
    embedder.fault = fault
    late = AnswersLate(services.documents)
    await pipeline(services, embedder, documents=cast(DocumentStore, late), lease_s=SHORT_LEASE_S).run(job(document))
    assert (await read(services, document)).letter == ("sent" if fault else "")


class ClaimsUnheard:
    """A document store that grants the first claims and whose answers are lost."""

    def __init__(self, documents: DocumentStore, *, lost: int) -> None:
        self._documents = documents
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    async def claim(self, document_id: str, owner: str, lease_ms: int, *, token: str, delivery: str) -> Document:
        claimed = await self._documents.claim(document_id, owner, lease_ms, token=token, delivery=delivery)
        if self._lost:
            self._lost -= 1
            raise DependencyUnavailable("mongodb", "connection reset")
        return claimed


@pytest.mark.parametrize("attempts_before", [0, 4], ids=["first", "last"])
async def test_a_claim_with_a_lost_answer_counts_no_attempt_and_delays_no_worker(
    services: Services, tmp_path: Path, attempts_before: int
) -> None:
    document = await submitted(services, tmp_path / "one.pdf", pages=1)
    for _ in range(attempts_before):
        await claim_and_die(services, document)
    unheard = cast(DocumentStore, ClaimsUnheard(services.documents, lost=2))
    worker = pipeline(services, ScriptedEmbedder(), documents=unheard)
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await worker.run(job(document))
    await worker.run(job(document))
    settled = await read(services, document)
    assert (settled.state, settled.attempts) == (S.READY, attempts_before + 1)


async def test_a_last_attempt_checks_the_lease_before_it_takes_the_exclusive_lock(
    services: Services, tmp_path: Path
) -> None:
    suspect = await submitted(services, tmp_path / "one.pdf", pages=1)
    for _ in range(3):
        await claim_and_die(services, suspect)
    await services.documents.claim(suspect.id, "another", lease_ms=60_000)
    worker = pipeline(services, ScriptedEmbedder())
    async with asyncio.timeout(DEADLINE_S), worker.document_lock.shared():
        with pytest.raises(LeaseHeld):
            await worker.run(job(suspect))


async def run_when_free(services: Services, document: Document, embedder: ScriptedEmbedder) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not (await read(services, document)).state.is_settled:
            with suppress(LeaseHeld):
                await pipeline(services, embedder).run(job(document))
