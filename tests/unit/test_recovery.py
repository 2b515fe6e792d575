"""The janitor's round on in-memory stores: everything that a crash or an outage leaves half done."""

from __future__ import annotations

from typing import Any

import pytest

from ingestion.cancel import Canceller
from ingestion.errors import DependencyUnavailable
from ingestion.model import DocumentState, Failure, StaleKind, document_prefix, image_key
from ingestion.removal import Remover
from tests.support.memory_worker import GROUP, LEASE_S, Cut, MemoryWorker, job
from workers.recovery import Janitor

S = DocumentState
GRACE_S = 60.0
LOST_AFTER_S = 3600.0


@pytest.fixture
def worker() -> MemoryWorker:
    return MemoryWorker()


def janitor(worker: MemoryWorker, queue: Any = None) -> Janitor:
    queue = queue or worker.queue
    remover = Remover(worker.documents, worker.vectors, worker.blobs, queue, worker.progress)
    canceller = Canceller(worker.documents, worker.vectors, worker.blobs, queue, worker.progress)
    return Janitor(worker.documents, queue, remover, canceller, GROUP, GRACE_S, LOST_AFTER_S)


async def test_a_lease_that_ran_out_is_queued_and_published(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    await worker.documents.claim(document.id, "killed", round(LEASE_S * 1000))
    worker.clock.advance(LEASE_S + GRACE_S - 1)
    assert not (await janitor(worker).round()).repaired
    worker.clock.advance(2)
    assert (await janitor(worker).round()).repaired == {StaleKind.ABANDONED: 1}
    freed = await worker.read(document)
    assert (freed.state, freed.outbox, freed.attempts) == (S.QUEUED, "sent", 1)
    assert worker.queue.job_ids == [document.id]


async def test_a_job_that_the_broker_may_have_lost_is_published_again(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.clock.advance(LOST_AFTER_S + 1)
    assert (await janitor(worker).round()).repaired == {StaleKind.LOST: 1}
    assert worker.queue.job_ids == [document.id]


async def test_a_job_that_was_never_published_is_published(worker: MemoryWorker) -> None:
    document = await worker.uploaded(is_published=False)
    worker.clock.advance(GRACE_S + 1)
    assert (await janitor(worker).round()).repaired == {StaleKind.UNPUBLISHED: 1}
    assert worker.queue.job_ids == [document.id]
    assert (await worker.read(document)).outbox == "sent"


async def test_a_dead_letter_that_was_never_published_is_published_with_its_event(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    claimed = await worker.documents.claim(document.id, "killed", 1000)
    await worker.documents.fail(document.id, claimed.fence, Failure("internal", "embed", "a bug"))
    worker.clock.advance(GRACE_S + 1)
    for _ in range(2):
        await janitor(worker).round()
    [letter] = worker.queue.letters
    assert (letter.document_id, letter.group, letter.failure.message) == (document.id, GROUP, "a bug")
    assert (letter.key, letter.value) == (job(document).key, job(document).value)
    assert len(worker.queue.events) == 1


async def test_a_delete_that_was_cut_off_is_finished(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    await worker.pipeline.run(job(document))
    await worker.documents.begin_delete(document.id)
    worker.clock.advance(GRACE_S + 1)
    assert (await janitor(worker).round()).repaired == {StaleKind.HALF_DELETED: 1}
    assert await worker.documents.get(document.id) is None
    assert await worker.rows(document) == 0
    assert await worker.blobs.list_keys(document_prefix(document.id)) == []


async def test_a_cancellation_that_was_cut_off_is_finished(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    claimed = await worker.documents.claim(document.id, "killed", 1000)
    await worker.blobs.put(image_key(document.id, 1, "webp"), b"a picture", "image/webp")
    await worker.documents.begin_cancel(document.id)
    worker.clock.advance(GRACE_S + 1)
    assert (await janitor(worker).round()).repaired == {StaleKind.HALF_CANCELLED: 1}
    cancelled = await worker.read(document)
    assert (cancelled.state, cancelled.fence) == (S.CANCELLED, claimed.fence + 1)
    assert await worker.blobs.list_keys(document_prefix(document.id)) == [document.object_key]
    assert len(worker.queue.events) == 1
    worker.clock.advance(GRACE_S + 1)
    assert not (await janitor(worker).round()).repaired


async def test_a_document_that_cannot_be_repaired_hides_no_other(worker: MemoryWorker) -> None:
    first, second = await worker.uploaded("a"), await worker.uploaded("b")
    worker.clock.advance(LOST_AFTER_S + 1)
    publish = worker.queue.publish

    async def failing(given: Any) -> None:
        if given.document_id == first.id:
            raise KeyError("a field")
        await publish(given)

    worker.queue.publish = failing  # type: ignore[method-assign]
    done = await janitor(worker).round()
    assert (done.failed, done.repaired) == ([first.id], {StaleKind.LOST: 1})
    assert worker.queue.job_ids == [second.id]


async def test_an_outage_ends_the_round_and_the_next_one_repairs(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.clock.advance(LOST_AFTER_S + 1)
    down = Cut(worker.queue, "publish", DependencyUnavailable("kafka", "down"))
    with pytest.raises(DependencyUnavailable):
        await janitor(worker, down).round()
    await janitor(worker).round()
    assert worker.queue.job_ids == [document.id]
