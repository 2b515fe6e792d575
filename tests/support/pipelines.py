"""A pipeline on real stores with a scripted embedder, and documents for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fpdf import FPDF

from ingestion.bootstrap import DocumentStore, Services
from ingestion.errors import DependencyUnavailable, IngestError, LeaseHeld, WorkerFault
from ingestion.messages import Record, encode_job
from ingestion.model import (
    SIGN_CODE_FORMAT,
    TERM_FORMAT,
    Document,
    IngestJob,
    Page,
    Vectors,
    codes_keys,
    document_prefix,
    terms_keys,
    vectors_key,
)
from ingestion.ports import Embedder
from ingestion.sandbox.pool import Sandbox
from ingestion.submit import Submitter, Upload
from ingestion.vectors.blob import decode_blob
from tests.support.embedders import WordEmbedder
from workers.attempt.claims import Claims
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import FailureRun
from workers.attempt.store import PageStore
from workers.pipeline import Pipeline
from workers.rendering.renderer import PdfRenderer

COLLECTION = "manuals"
WINDOW = 3
DEADLINE_S = 30.0


class ScriptedEmbedder(WordEmbedder):
    """Records its pages in `seen`. Fails, or waits for `go_on`, at the page number that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.fail_once_at: int | None = None
        self.fault: IngestError | None = None
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
        if self.fault is not None:
            raise self.fault
        self.seen += numbers
        return await super().embed_pages(pages)


class Without:
    """A port with one method that raises."""

    def __init__(self, port: object, missing: str, error: Exception | None = None) -> None:
        self._port = port
        self.missing = missing
        self._error = error or WorkerFault(f"{missing} was cut off")

    def __getattr__(self, name: str) -> Any:
        return self._raise if name == self.missing else getattr(self._port, name)

    async def _raise(self, *args: object, **kwargs: object) -> None:
        raise self._error


def pipeline(
    services: Services,
    embedder: Embedder,
    *,
    worker: str = "w1",
    lease_s: float = 30.0,
    documents: DocumentStore | None = None,
    queue: Any = None,
) -> Pipeline:
    render = services.settings.render.model_copy(update={"render_window_pages": WINDOW, "fixed_dpi": 40})
    documents = documents or services.documents
    store = PageStore(services.documents, services.blobs, services.vectors)
    return Pipeline(
        ledger=documents,
        blobs=services.blobs,
        store=store,
        renderer=PdfRenderer(render.model_copy(update={"dpi_policy": "fixed"}), max_pages=1000),
        embedder=embedder,
        progress=services.progress,
        outcomes=OutcomePublisher(
            ledger=documents,
            queue=queue or services.queue,
            progress=services.progress,
            failures=FailureRun(10, on_limit=lambda cause: None),
            group=services.settings.kafka.kafka_group,
            max_attempts=5,
            retry_delays_s=services.settings.kafka.retry_delays_s,
        ),
        claims=Claims(documents, store, worker, lease_s),
        max_attempts=5,
    )


async def submitted(services: Services, path: Path, pages: int, word: str = "page") -> Document:
    pdf = FPDF(format=(105, 148))
    pdf.set_font("Helvetica", size=12)
    for number in range(1, pages + 1):
        pdf.add_page()
        pdf.multi_cell(0, text=f"{word} number {number} alpha{number} beta{number}")
    path.write_bytes(pdf.output())
    return await submitted_again(services, path)


async def submitted_again(services: Services, path: Path) -> Document:
    """Submit the same file again."""
    content = path.read_bytes()
    submitter = Submitter(
        records=services.documents,
        blobs=services.blobs,
        queue=services.queue,
        progress=services.progress,
        sandbox=Sandbox(processes=1, memory_bytes=1 << 30),
        max_pages=1000,
        inspect_timeout_s=20,
    )
    upload = Upload(path.name, path, hashlib.sha256(content).hexdigest(), len(content))
    return await submitter.submit(COLLECTION, upload)


def job(document: Document) -> Record:
    """The Kafka record of the document's job."""
    key, value, headers = encode_job(IngestJob.of(document))
    return Record(("jobs", 3), 17, key, value, tuple(headers))


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
    segments = codes_keys(document.id, document.pages) + terms_keys(document.id, document.pages)
    assert len(objects) == 2 * document.pages + 1 + len(segments)
    assert set(segments) <= set(objects)
    stored = await read(services, document)
    assert (stored.codes_format, stored.terms_format) == (SIGN_CODE_FORMAT, TERM_FORMAT)
    for record in records.values():
        assert record.image_key in objects
        vectors = decode_blob(await services.blobs.get(vectors_key(document.id, record.page_number)))
        assert len(vectors) == record.patches


async def claim_and_die(services: Services, document: Document) -> None:
    """Leave the state of a killed worker: a claim with an expired lease."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await services.documents.claim(document.id, "killed", lease_ms=1)
            except LeaseHeld:
                await asyncio.sleep(0.005)
            else:
                return
