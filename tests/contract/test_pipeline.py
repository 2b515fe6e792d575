"""The stages of a document in a worker, on real stores, with an embedder without a model."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from ingestion.bootstrap import DocumentStore, Services
from ingestion.errors import DependencyUnavailable, LeaseHeld
from ingestion.model import Document, DocumentState, document_prefix, image_key
from ingestion.search import Searcher
from tests.support.pipelines import (
    COLLECTION,
    DEADLINE_S,
    ScriptedEmbedder,
    Without,
    assert_stores_hold_exactly,
    claim_and_die,
    job,
    pipeline,
    read,
    submitted,
    submitted_again,
)
from workers.wiring import remover_of


async def test_a_document_becomes_ready_and_its_pages_are_found(services: Services, tmp_path: Path) -> None:
    embedder = ScriptedEmbedder()
    document = await submitted(services, tmp_path / "ten.pdf", pages=10)
    await pipeline(services, embedder).run(job(document))
    ready = await read(services, document)
    assert (ready.state, ready.pages_done, ready.attempts, ready.dpi) == (DocumentState.READY, 10, 1, 40)
    assert embedder.seen == list(range(1, 11))
    await assert_stores_hold_exactly(services, ready)
    searcher = Searcher(
        embedder=embedder,
        vectors=services.vectors,
        records=services.documents,
        blobs=services.blobs,
        settings=services.settings.search,
    )
    hits = await searcher.search(COLLECTION, "alpha7 beta7", 3)
    assert (hits[0].document_id, hits[0].page) == (document.id, 7)
    assert "alpha7" in hits[0].snippet
    assert hits[0].score > hits[1].score
    assert (await services.progress.read(document.id))["status"] == "ready"


async def test_a_job_that_comes_again_changes_nothing(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "two.pdf", pages=2)
    await pipeline(services, ScriptedEmbedder()).run(job(document))
    before = await read(services, document)
    embedder = ScriptedEmbedder()
    await pipeline(services, embedder, worker="w2").run(job(document))
    assert embedder.seen == []
    assert await read(services, document) == before
    await assert_stores_hold_exactly(services, before)


async def test_after_an_outage_work_goes_on_behind_the_checkpoint_and_no_attempt_is_counted(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    embedder = ScriptedEmbedder()
    embedder.fail_once_at = 8
    document = await submitted(services, tmp_path / "ten.pdf", pages=10)
    with pytest.raises(DependencyUnavailable, match="scripted"):
        await pipeline(services, embedder).run(job(document))
    between = await read(services, document)
    assert between.state is DocumentState.QUEUED
    assert between.attempts == 0
    assert between.pages_done in (0, 3, 6)
    seen_before = list(embedder.seen)
    await pipeline(services, embedder, worker="w2").run(job(document))
    ready = await read(services, document)
    assert (ready.state, ready.attempts) == (DocumentState.READY, 1)
    assert embedder.seen[len(seen_before) :] == list(range(between.pages_done + 1, 11))
    await assert_stores_hold_exactly(services, ready)


async def test_a_picture_that_an_earlier_attempt_left_in_another_format_does_not_stay(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "two.pdf", pages=2)
    await claim_and_die(services, document)
    await services.blobs.put(image_key(document.id, 2, "jpeg"), b"rendered by another engine", "image/jpeg")
    async with asyncio.timeout(DEADLINE_S):
        while (await read(services, document)).state is not DocumentState.READY:
            with suppress(LeaseHeld):
                await pipeline(services, ScriptedEmbedder()).run(job(document))
    await assert_stores_hold_exactly(services, await read(services, document))


async def test_a_file_that_cannot_be_rendered_fails_with_code_stage_and_cause(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "broken.pdf", pages=2)
    await services.blobs.put(document.object_key, b"%PDF-1.4\nnothing more", "application/pdf")
    await pipeline(services, ScriptedEmbedder()).run(job(document))
    failed = await read(services, document)
    assert failed.state is DocumentState.FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("corrupt_pdf", "render")
    assert failed.error.message
    assert (await services.progress.read(document.id))["status"] == "failed"


async def test_a_file_with_another_page_count_than_at_the_upload_fails_and_writes_nothing(
    services: Services, tmp_path: Path
) -> None:
    longer = await submitted(services, tmp_path / "longer.pdf", pages=3)
    document = await submitted(services, tmp_path / "shorter.pdf", pages=2)
    await services.blobs.put(document.object_key, (tmp_path / "longer.pdf").read_bytes(), "application/pdf")
    await pipeline(services, ScriptedEmbedder()).run(job(document))
    failed = await read(services, document)
    assert failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("corrupt_pdf", "render")
    assert "counts 3 pages" in failed.error.message and "upload it again" in failed.error.message
    assert await services.vectors.count_rows(COLLECTION, longer.first_page_key, 10) == 0


async def test_a_source_that_is_gone_fails_the_document(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "gone.pdf", pages=1)
    await services.blobs.delete_prefix(document_prefix(document.id))
    await pipeline(services, ScriptedEmbedder()).run(job(document))
    failed = await read(services, document)
    assert failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("source_missing", "fetch")


async def test_a_claim_of_a_document_that_another_worker_holds_raises_lease_held(
    services: Services, tmp_path: Path
) -> None:
    embedder = ScriptedEmbedder()
    embedder.hold_at = 2
    document = await submitted(services, tmp_path / "held.pdf", pages=2)
    first = asyncio.create_task(pipeline(services, embedder).run(job(document)))
    async with asyncio.timeout(DEADLINE_S):
        await embedder.holding.wait()
        with pytest.raises(LeaseHeld) as held:
            await pipeline(services, ScriptedEmbedder(), worker="w2").run(job(document))
        assert 0 < held.value.retry_in_s <= 30
        embedder.go_on.set()
        await first
    assert (await read(services, document)).state is DocumentState.READY


async def test_a_worker_that_outlived_its_lease_writes_no_verdict(services: Services, tmp_path: Path) -> None:
    late = ScriptedEmbedder()
    late.hold_at = 1
    document = await submitted(services, tmp_path / "late.pdf", pages=2)
    first = pipeline(services, late, lease_s=60.0)
    sleeping = asyncio.create_task(first.run(job(document)))
    async with asyncio.timeout(DEADLINE_S):
        await late.holding.wait()
        claimed = await read(services, document)
        await services.documents.release(document.id, claimed.fence)  # as if the lease had run out
        await pipeline(services, ScriptedEmbedder(), worker="w2").run(job(document))
        ready = await read(services, document)
        assert ready.fence == claimed.fence + 1
        late.go_on.set()
        await sleeping
    assert await read(services, document) == ready
    await assert_stores_hold_exactly(services, ready)


async def test_a_delete_in_the_middle_leaves_nothing_in_any_store(services: Services, tmp_path: Path) -> None:
    embedder = ScriptedEmbedder()
    embedder.hold_at = 5
    document = await submitted(services, tmp_path / "deleted.pdf", pages=8)
    working = asyncio.create_task(pipeline(services, embedder, lease_s=60.0).run(job(document)))
    async with asyncio.timeout(DEADLINE_S):
        await embedder.holding.wait()
        await remover_of(services).delete_document(document.id)
        embedder.go_on.set()
        await working
    await assert_stores_hold_nothing(services, document)


@pytest.mark.parametrize("silent", [False, True], ids=["told at once", "told later"])
async def test_a_delete_leaves_nothing_where_an_outage_ends_the_attempt(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    embedder = ScriptedEmbedder()
    embedder.hold_at = 2
    outage = DependencyUnavailable("mongodb", "down")
    deaf = Without(services.documents, "release" if silent else "", outage)
    worker = pipeline(services, embedder, documents=cast(DocumentStore, Without(deaf, "finish", outage)), lease_s=60.0)
    document = await submitted(services, tmp_path / "deleted.pdf", pages=2)
    working = asyncio.create_task(worker.run(job(document)))
    async with asyncio.timeout(DEADLINE_S):
        await embedder.holding.wait()
        await remover_of(services).delete_document(document.id)
        embedder.go_on.set()
        with pytest.raises(DependencyUnavailable):
            await working
        if silent:
            deaf.missing = ""
            await worker.run(job(document))
    await assert_stores_hold_nothing(services, document)


async def test_a_late_worker_does_not_change_a_document_that_was_deleted_and_uploaded_again(
    services: Services, tmp_path: Path
) -> None:
    early, late = ScriptedEmbedder(), ScriptedEmbedder()
    early.hold_at = late.hold_at = 2
    first = await submitted(services, tmp_path / "again.pdf", pages=2)
    first_worker = asyncio.create_task(pipeline(services, early, lease_s=60.0).run(job(first)))
    async with asyncio.timeout(DEADLINE_S):
        await early.holding.wait()
        await remover_of(services).delete_document(first.id)
        second = await submitted_again(services, tmp_path / "again.pdf")
        assert (second.id, second.outbox) == (first.id, "sent")
        second_worker = asyncio.create_task(pipeline(services, late, worker="w2").run(job(second)))
        await late.holding.wait()
        early.go_on.set()
        await first_worker
        between = await read(services, second)
        assert (between.state, between.owner, between.pages_done) == (DocumentState.PROCESSING, "w2", 0)
        late.go_on.set()
        await second_worker
    ready = await read(services, second)
    assert ready.state is DocumentState.READY
    await assert_stores_hold_exactly(services, ready)
    assert await services.vectors.count_rows(COLLECTION, first.first_page_key, first.pages) == 0


async def assert_stores_hold_nothing(services: Services, document: Document) -> None:
    assert await services.documents.get(document.id) is None
    assert await services.blobs.list_keys(document_prefix(document.id)) == []
    assert await services.vectors.count_rows(COLLECTION, document.first_page_key, document.pages) == 0
    assert await services.documents.pages_by_key(document.page_keys) == {}


async def test_a_document_that_was_begun_too_often_is_given_up(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "poison.pdf", pages=1)
    for _ in range(5):
        await claim_and_die(services, document)
    embedder = ScriptedEmbedder()
    async with asyncio.timeout(DEADLINE_S):
        while not (await read(services, document)).state.is_settled:
            with suppress(LeaseHeld):
                await pipeline(services, embedder).run(job(document))
    failed = await read(services, document)
    assert failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("attempts_exhausted", "claim")
    assert embedder.seen == []
