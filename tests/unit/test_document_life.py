"""The life of a document in a worker, on in-memory stores: every outcome of an attempt."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NoReturn

import pytest

from ingestion.cancel import Canceller
from ingestion.errors import CorruptPdf, DependencyUnavailable, LeaseHeld, NewerRecord, WorkerFault
from ingestion.messages import Record
from ingestion.model import OUTAGES_FORGIVEN, DocumentState, document_prefix, pages_prefix
from tests.support.memory_worker import DELAYS_S, DIM, LEASE_S, MAX_ATTEMPTS, Action, Cut, MemoryWorker, job
from workers.attempt.stall import StallDetector
from workers.runtime.awake_clock import AwakeClock

S = DocumentState


def canceller_for(worker: MemoryWorker) -> Canceller:
    return Canceller(worker.documents, worker.vectors, worker.blobs, worker.queue, worker.progress)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> MemoryWorker:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    return MemoryWorker()


async def test_a_document_becomes_ready_with_all_its_pages(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=5)
    await worker.pipeline.run(job(document))
    ready = await worker.read(document)
    assert (ready.state, ready.attempts, ready.pages_done, ready.dpi) == (S.READY, 1, 5, 40)
    assert (ready.owner, ready.lease_until_ms, ready.error) == ("", 0, None)
    assert worker.embedder.seen == [1, 2, 3, 4, 5]
    assert sorted(await worker.documents.pages_by_key(document.page_keys)) == list(document.page_keys)
    assert await worker.rows(document) == 10
    assert len(await worker.blobs.list_keys(pages_prefix(document.id))) == 2 * 5 + 2
    assert len(worker.queue.events) == 1
    assert worker.progress.tasks[document.id]["status"] == "ready"
    assert await worker.events(document) == ["claimed", "ready"]


async def test_a_job_that_comes_again_changes_nothing_and_is_announced_again(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    await worker.pipeline.run(job(document))
    ready = await worker.read(document)
    await worker.pipeline.run(job(document))
    assert await worker.read(document) == ready
    assert worker.embedder.seen == [1, 2, 3, 4]
    assert len(worker.queue.events) == 2


async def test_a_failed_attempt_is_retried_later_and_resumes_after_its_checkpoint(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=4)
    worker.embedder.before[3] = raising(WorkerFault("a bug"))
    await worker.pipeline.run(job(document))
    waiting = await worker.read(document)
    assert (waiting.state, waiting.attempts) == (S.QUEUED, 1)
    assert waiting.error is not None
    assert (waiting.error.code, waiting.error.stage, waiting.error.message) == ("internal", "embed", "a bug")
    [retry] = worker.queue.retries(DELAYS_S[0])
    assert (retry.key, retry.value, retry.origin) == (job(document).key, job(document).value, job(document).origin)
    with pytest.raises(LeaseHeld) as held:
        await worker.pipeline.run(retry)
    assert held.value.retry_in_s == DELAYS_S[0]
    done_before = waiting.pages_done
    worker.clock.advance(DELAYS_S[0])
    await worker.pipeline.run(retry)
    ready = await worker.read(document)
    assert (ready.state, ready.attempts, ready.error) == (S.READY, 2, None)
    assert worker.embedder.seen[-(4 - done_before) :] == list(range(done_before + 1, 5))
    assert await worker.rows(document) == 8


async def test_a_permanent_error_is_a_dead_letter_at_once(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.renderer.error = CorruptPdf("no page tree")
    await worker.pipeline.run(job(document))
    failed = await worker.read(document)
    assert (failed.state, failed.attempts, failed.letter) == (S.FAILED, 1, "sent")
    [letter] = worker.queue.letters
    assert (letter.key, letter.value, letter.document_id) == (job(document).key, job(document).value, document.id)
    assert (letter.failure.code, letter.failure.stage, letter.delivery_count) == ("corrupt_pdf", "render", 1)
    assert len(worker.queue.events) == 1


async def test_a_file_with_other_pages_than_the_upload_counted_fails(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=2, pages_in_file=3)
    await worker.pipeline.run(job(document))
    failed = await worker.read(document)
    assert failed.error is not None
    assert failed.error.code == "corrupt_pdf"
    assert await worker.rows(document) == 0


async def test_the_last_attempt_runs_alone_and_ends_in_a_dead_letter(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    alone = []

    async def note() -> None:
        alone.append(worker.pipeline.document_lock.is_exclusive_wanted)

    worker.embedder.error = WorkerFault("a bug")
    for _ in range(MAX_ATTEMPTS):
        worker.embedder.before[1] = note
        await worker.pipeline.run(job(document))
        worker.clock.advance(DELAYS_S[-1])
    assert alone == [False] * (MAX_ATTEMPTS - 1) + [True]
    failed = await worker.read(document)
    assert (failed.state, failed.attempts) == (S.FAILED, MAX_ATTEMPTS)
    assert [letter.delivery_count for letter in worker.queue.letters] == [MAX_ATTEMPTS]
    assert [len(worker.queue.retries(delay_s)) for delay_s in DELAYS_S] == [1, 1, 2]


async def test_attempts_that_killed_their_workers_end_in_a_dead_letter(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    for _ in range(MAX_ATTEMPTS):
        await worker.documents.claim(document.id, "killed", 1000)
        worker.clock.advance(2)
    await worker.pipeline.run(job(document))
    assert [letter.failure.code for letter in worker.queue.letters] == ["attempts_exhausted"]
    assert worker.embedder.seen == []


async def test_a_lease_lost_to_another_worker_leaves_the_document_to_it(worker: MemoryWorker) -> None:
    document = await worker.uploaded()

    async def lose() -> None:
        worker.clock.advance(LEASE_S + 1)
        await worker.documents.claim(document.id, "w2", 60_000)

    worker.embedder.before[1] = lose
    await worker.pipeline.run(job(document))
    held = await worker.read(document)
    assert (held.state, held.owner, held.attempts) == (S.PROCESSING, "w2", 2)
    assert (worker.queue.events, worker.queue.letters, worker.queue.retries(DELAYS_S[0])) == ([], [], [])


async def test_a_delete_during_an_attempt_wins_and_late_writes_are_deleted(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=4)

    async def delete() -> None:
        await worker.documents.begin_delete(document.id)

    worker.embedder.before[4] = delete
    await worker.pipeline.run(job(document))
    assert (await worker.read(document)).state is S.DELETING
    assert await worker.rows(document) == 0
    assert await worker.documents.pages_by_key(document.page_keys) == {}
    assert await worker.blobs.list_keys(pages_prefix(document.id)) == []
    assert worker.queue.events == []


async def test_a_cancelled_attempt_stops_after_its_window_and_nothing_of_it_stays(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=20)
    canceller = canceller_for(worker)

    async def cancel() -> None:
        await worker.documents.begin_cancel(document.id)

    worker.embedder.before[4] = cancel
    await worker.pipeline.run(job(document))
    assert max(worker.embedder.seen) <= 4 + 2 * 6  # windows of two pages; the stages are some windows ahead
    assert await canceller.finish_cancel(await worker.read(document))
    await worker.pipeline.run(job(document))  # the job is delivered again
    cancelled = await worker.read(document)
    assert (cancelled.state, cancelled.pages_done, cancelled.text_pages) == (S.CANCELLED, 0, None)
    assert await worker.rows(document) == 0
    assert await worker.documents.pages_by_key(document.page_keys) == {}
    assert await worker.blobs.list_keys(document_prefix(document.id)) == [document.object_key]
    assert worker.queue.letters == []
    assert worker.progress.tasks[document.id]["status"] == "cancelled"


async def test_a_worker_that_stood_still_during_a_cancellation_removes_its_late_writes(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=4)

    async def cancel() -> None:
        await canceller_for(worker).cancel_document(document.id)

    worker.embedder.before[3] = cancel
    await worker.pipeline.run(job(document))
    assert (await worker.read(document)).state is S.CANCELLED
    assert await worker.rows(document) == 0
    assert await worker.documents.pages_by_key(document.page_keys) == {}
    assert await worker.blobs.list_keys(document_prefix(document.id)) == [document.object_key]


async def test_a_cancelled_document_that_waits_for_a_retry_is_not_tried_again(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.embedder.before[3] = raising(WorkerFault("a bug"))
    await worker.pipeline.run(job(document))
    [retry] = worker.queue.retries(DELAYS_S[0])
    assert await worker.blobs.list_keys(pages_prefix(document.id)) != []
    assert (await canceller_for(worker).cancel_document(document.id)).state is S.CANCELLED
    assert await worker.blobs.list_keys(pages_prefix(document.id)) == []
    worker.clock.advance(DELAYS_S[0])
    seen = list(worker.embedder.seen)
    await worker.pipeline.run(retry)
    assert worker.embedder.seen == seen
    assert (await worker.read(document)).state is S.CANCELLED


async def test_all_unfinished_documents_of_a_collection_are_cancelled(worker: MemoryWorker) -> None:
    ready = await worker.uploaded("ready")
    await worker.pipeline.run(job(ready))
    waiting = [await worker.uploaded(f"d{number}") for number in range(40)]
    result = await canceller_for(worker).cancel_collection(ready.collection)
    assert (result.cancelled, result.cancelling) == (40, 0)
    assert {(await worker.read(one)).state for one in waiting} == {S.CANCELLED}
    assert (await worker.read(ready)).state is S.READY
    assert len(worker.queue.events) == 41
    result = await canceller_for(worker).cancel_collection(ready.collection)
    assert (result.cancelled, result.cancelling) == (0, 0)


async def test_an_attempt_that_stalls_is_ended_and_retried(worker: MemoryWorker) -> None:
    now_s = 0.0
    stalls = StallDetector(floor_s=1.0, factor=1.0, clock=AwakeClock(lambda: now_s))
    document, reached = await worker.uploaded(), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    worker.embedder.before[1] = hang
    run = asyncio.create_task(worker.pipeline_of(stalls=stalls).run(job(document)))
    await reached.wait()
    for _ in range(4):
        now_s += 0.5
        stalls.check()
    await run
    waiting = await worker.read(document)
    assert waiting.error is not None
    assert (waiting.state, waiting.attempts, waiting.error.code, waiting.error.stage) == (
        S.QUEUED,
        1,
        "stalled",
        "embed",
    )
    assert len(worker.queue.retries(DELAYS_S[0])) == 1


async def test_an_outage_costs_no_attempt_and_the_job_stays_to_be_done(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.embedder.error = DependencyUnavailable("embedder", "down")
    for _ in range(MAX_ATTEMPTS + OUTAGES_FORGIVEN):
        with pytest.raises(DependencyUnavailable):
            await worker.pipeline.run(job(document))
    waiting = await worker.read(document)
    assert (waiting.state, waiting.attempts, waiting.outages) == (S.QUEUED, 0, 0)
    worker.embedder.error = None
    await worker.pipeline.run(job(document))
    assert (await worker.read(document)).state is S.READY


async def test_a_document_that_alone_makes_a_server_fail_ends_in_a_dead_letter(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.embedder.error = DependencyUnavailable("embedder", "crashed")
    for _ in range(1 + OUTAGES_FORGIVEN):
        with pytest.raises(DependencyUnavailable):
            await worker.pipeline.run(job(document))
        worker.pipeline.evidence.add_success("embedder", document_id="another")
    assert (await worker.read(document)).attempts == 0
    for _ in range(MAX_ATTEMPTS):
        await worker.pipeline.run(job(document))
        worker.pipeline.evidence.add_success("embedder", document_id="another")
        worker.clock.advance(DELAYS_S[-1])
    assert (await worker.read(document)).state is S.FAILED
    assert [letter.failure.code for letter in worker.queue.letters] == ["fails_alone"]


async def test_a_dead_letter_that_a_crash_held_back_is_published_once(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.renderer.error = CorruptPdf("no page tree")
    cut = Cut(worker.queue, "publish_dead_letter", WorkerFault("cut off"))
    with pytest.raises(WorkerFault, match="cut off"):
        await worker.pipeline_of(queue=cut).run(job(document))
    assert (await worker.read(document)).letter == "pending"
    for _ in range(2):
        await worker.pipeline.run(job(document))
    assert len(worker.queue.letters) == 1


async def test_a_record_that_is_no_job_is_a_dead_letter_with_the_same_bytes(worker: MemoryWorker) -> None:
    record = Record(("jobs", 1), 7, b"\x00key", b"\xff no job", (("theirs", b"\x01"),))
    await worker.pipeline.run(record)
    [letter] = worker.queue.letters
    assert (letter.key, letter.value, letter.headers) == (record.key, record.value, record.headers)
    assert letter.failure.code == "bad_message"


async def test_an_unreadable_record_is_not_claimed(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    stored = worker.documents.state.documents[document.id]
    stored.document = before = replace(stored.document, state=DocumentState("of a newer release"))
    with pytest.raises(NewerRecord):
        await worker.pipeline.run(job(document))
    assert await worker.read(document) == before


async def test_a_claim_whose_answer_was_lost_counts_once(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    cut = Cut(worker.documents, "claim", DependencyUnavailable("mongodb", "no answer"), works=True)
    pipeline = worker.pipeline_of(documents=cut)
    with pytest.raises(DependencyUnavailable):
        await pipeline.run(job(document))
    assert (await worker.read(document)).attempts == 1
    cut.method = ""
    await pipeline.run(job(document))
    ready = await worker.read(document)
    assert (ready.state, ready.attempts) == (S.READY, 1)


async def test_a_claim_that_an_outage_kept_from_being_released_is_released_later(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    worker.embedder.before[1] = raising(DependencyUnavailable("embedder", "down"))
    cut = Cut(worker.documents, "release", DependencyUnavailable("mongodb", "down"))
    pipeline = worker.pipeline_of(documents=cut)
    with pytest.raises(DependencyUnavailable):
        await pipeline.run(job(document))
    assert (await worker.read(document)).attempts == 1
    cut.method = ""
    await pipeline.run(job(document))
    ready = await worker.read(document)
    assert (ready.state, ready.attempts) == (S.READY, 1)


async def test_a_collection_about_to_change_embedders_defers_its_jobs_after_one_claim(worker: MemoryWorker) -> None:
    await worker.pipeline.run(job(await worker.uploaded("first")))
    bound = await worker.documents.begin_generation("manuals", "the next", DIM)
    assert bound.next is not None
    closing = await worker.documents.close_generation("manuals", bound.next.number)
    document = await worker.uploaded("second")
    for _ in range(3):
        await worker.pipeline.run(job(document))
    waiting = await worker.read(document)
    assert (waiting.state, waiting.attempts) == (S.QUEUED, 0)
    assert len(worker.queue.retries(DELAYS_S[0])) == 3
    assert await worker.events(document) == ["claimed", "released"], "the second and third ask before they claim"
    await worker.documents.open_generation("manuals", closing)
    await worker.pipeline.run(job(document))
    assert (await worker.read(document)).state is S.READY


def raising(error: Exception) -> Action:
    async def action() -> NoReturn:
        raise error

    return action
