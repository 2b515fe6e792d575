"""A document's way through a worker, on real stores, with an embedder that costs nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from fpdf import FPDF

from ingestion.bootstrap import Services, open_services
from ingestion.errors import DependencyUnavailable, LeaseHeld
from ingestion.model import Document, DocumentState, IngestJob, Page, Vectors, document_prefix
from ingestion.prepare import prepare
from ingestion.removal import Remover
from ingestion.sandbox import Sandbox
from ingestion.search import Searcher
from ingestion.settings import Settings
from ingestion.submit import Submitter, Upload
from ingestion.vectors import decode_blob
from tests.embedders import WordEmbedder
from workers.pipeline import Pipeline
from workers.render import PdfRenderer
from workers.store import PageStore

COLLECTION = "manuals"
WINDOW = 3
DEADLINE_S = 30.0


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    await prepare(settings)
    async with open_services(settings) as services:
        yield services
        await services.vectors.drop(COLLECTION)


class ScriptedEmbedder(WordEmbedder):
    """Remembers the pages it saw, and does what `before` says at the page of that number."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.fail_once_at: int | None = None
        self.hold_at: int | None = None
        self.holding = asyncio.Event()
        self.go_on = asyncio.Event()

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        numbers = [page.page_number for page in pages]
        if self.hold_at in numbers:
            self.holding.set()
            await self.go_on.wait()
        if self.fail_once_at in numbers:
            self.fail_once_at = None
            raise DependencyUnavailable("embedder", "scripted")
        self.seen += numbers
        return await super().embed_pages(pages)


def pipeline(services: Services, embedder: ScriptedEmbedder, *, worker: str = "w1", lease_s: float = 30.0) -> Pipeline:
    render = services.settings.render.model_copy(update={"render_window_pages": WINDOW, "fixed_dpi": 40})
    return Pipeline(
        documents=services.documents,
        blobs=services.blobs,
        store=PageStore(services.documents, services.blobs, services.vectors, "webp"),
        renderer=PdfRenderer(render.model_copy(update={"dpi_policy": "fixed"}), max_pages=1000),
        embedder=embedder,
        queue=services.queue,
        progress=services.progress,
        worker=worker,
        lease_s=lease_s,
        max_attempts=5,
    )


async def submitted(services: Services, path: Path, pages: int, word: str = "page") -> Document:
    pdf = FPDF(format=(105, 148))
    pdf.set_font("Helvetica", size=12)
    for number in range(1, pages + 1):
        pdf.add_page()
        pdf.multi_cell(0, text=f"{word} number {number} alpha{number} beta{number}")
    path.write_bytes(pdf.output())
    content = path.read_bytes()
    submitter = Submitter(
        documents=services.documents,
        blobs=services.blobs,
        queue=services.queue,
        progress=services.progress,
        sandbox=Sandbox(processes=1, memory_bytes=1 << 30),
        max_pages=1000,
        inspect_timeout_s=20,
    )
    upload = Upload(path.name, path, hashlib.sha256(content).hexdigest(), len(content))
    return await submitter.submit(COLLECTION, upload)


def job(document: Document) -> IngestJob:
    return IngestJob(document.id, document.collection, document.filename)


async def read(services: Services, document: Document) -> Document:
    found = await services.documents.get(document.id)
    assert found is not None
    return found


async def assert_stores_hold_exactly(services: Services, document: Document) -> None:
    keys = range(document.first_page_key, document.first_page_key + document.pages)
    records = await services.documents.pages_by_key(keys, with_text=True)
    assert sorted(records) == list(keys)
    rows = await services.vectors.count_rows(document.collection, document.first_page_key, document.pages)
    assert rows == sum(record.patches for record in records.values()) > 0
    objects = await services.blobs.list_keys(document_prefix(document.id))
    assert len(objects) == 2 * document.pages + 1
    for record in records.values():
        assert record.image_key in objects
        vectors = decode_blob(await services.blobs.get(record.image_key.replace(".webp", ".bf16")))
        assert len(vectors) == record.patches


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
        documents=services.documents,
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
    monkeypatch.setattr("workers.store._RETRY_ATTEMPTS", 1)
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


async def test_a_source_that_is_gone_fails_the_document(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "gone.pdf", pages=1)
    await services.blobs.delete_prefix(document_prefix(document.id))
    await pipeline(services, ScriptedEmbedder()).run(job(document))
    failed = await read(services, document)
    assert failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("source_missing", "fetch")


async def test_while_one_worker_has_the_document_another_is_told_to_wait(services: Services, tmp_path: Path) -> None:
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
    first = pipeline(services, late, lease_s=0.5)
    sleeping = asyncio.create_task(first.run(job(document)))
    async with asyncio.timeout(DEADLINE_S):
        await late.holding.wait()
        await services.documents.release(document.id, fence=1)  # as if the lease had run out
        await pipeline(services, ScriptedEmbedder(), worker="w2").run(job(document))
        ready = await read(services, document)
        assert ready.fence == 2
        late.go_on.set()
        await sleeping
    assert await read(services, document) == ready
    await assert_stores_hold_exactly(services, ready)


async def test_a_delete_in_the_middle_leaves_nothing_in_any_store(services: Services, tmp_path: Path) -> None:
    embedder = ScriptedEmbedder()
    embedder.hold_at = 5
    document = await submitted(services, tmp_path / "deleted.pdf", pages=8)
    working = asyncio.create_task(pipeline(services, embedder, lease_s=60.0).run(job(document)))
    remover = Remover(
        documents=services.documents,
        vectors=services.vectors,
        blobs=services.blobs,
        queue=services.queue,
        progress=services.progress,
    )
    async with asyncio.timeout(DEADLINE_S):
        await embedder.holding.wait()
        await remover.delete_document(document.id)
        embedder.go_on.set()
        await working
    assert await services.documents.get(document.id) is None
    assert await services.blobs.list_keys(document_prefix(document.id)) == []
    assert await services.vectors.count_rows(COLLECTION, document.first_page_key, document.pages) == 0
    keys = range(document.first_page_key, document.first_page_key + document.pages)
    assert await services.documents.pages_by_key(keys) == {}


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


async def claim_and_die(services: Services, document: Document) -> None:
    """What remains of a worker that was killed: a claim whose lease runs out."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await services.documents.claim(document.id, "killed", lease_ms=1)
            except LeaseHeld:
                await asyncio.sleep(0.005)
            else:
                return
