"""Ingests a set through a worker's pipeline, and keeps each page's vectors in float32 beside the stores.

A job goes from the upload to the pipeline without Kafka. All else is what a worker does: claim, fetch, render, read,
embed, store, ready. A run that was ended goes on with the first document that is not ready.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ingestion.bootstrap import Services
from ingestion.concurrency.tasks import map_ordered
from ingestion.errors import LeaseHeld
from ingestion.messages import Record, encode_job
from ingestion.model import BlobPrecision, Document, DocumentState, IngestJob, Page, PageVectors, Vectors
from ingestion.ports import Embedder
from ingestion.sandbox.pool import Sandbox
from ingestion.submit import Submitter, Upload
from ingestion.vectors.encoding import VectorEncoding
from tests.benchmarks.rig import HeldJobs
from tests.benchmarks.vidore.dataset import BadDataset, CorpusPage, VidoreDataset
from tests.benchmarks.vidore.page_pdf import pages_pdf
from workers.attempt.claims import Claims
from workers.attempt.code_writer import CodeWriter
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import FailureRun
from workers.attempt.store import PageStore
from workers.ocr.reader import OcrReader
from workers.pipeline import Pipeline
from workers.rendering.renderer import PdfRenderer

PAGES_OF_DOCUMENT: Final = 32
_LEASE_RETRY_S: Final = 1.0
_BEGIN_ANEW: Final = "begin anew: name another folder by --work, or another database where the servers are given"


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A ready document, and the ids of its pages in their order."""

    document_id: str
    page_ids: Sequence[str]


class VectorFiles:
    """float32 vectors of pages, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, document_id: str, page_number: int) -> Path:
        return self._folder / document_id / f"{page_number:03d}.npy"

    def write(self, document_id: str, window: Sequence[PageVectors]) -> None:
        for entry in window:
            path = self.path(document_id, entry.page.page_number)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, entry.vectors)

    def read(self, part: StoredPart) -> list[Vectors]:
        """Raises BadDataset where the files of a ready document are gone."""
        try:
            return [np.load(self.path(part.document_id, number)) for number in range(1, len(part.page_ids) + 1)]
        except (OSError, ValueError) as error:
            raise BadDataset(f"vectors of an earlier run are missing: {error}; {_BEGIN_ANEW}") from error


class RecordingStore(PageStore):
    """A PageStore that also writes vectors to `files`, before they are rounded."""

    def __init__(self, services: Services, files: VectorFiles) -> None:
        settings = services.settings.vectors
        encoding = VectorEncoding(settings.index_pooling, settings.blob_precision)
        super().__init__(services.documents, services.blobs, services.vectors, encoding)
        self._files = files

    async def write(self, document: Document, window: Sequence[PageVectors], codes: CodeWriter) -> None:
        await asyncio.to_thread(self._files.write, document.id, window)
        await super().write(document, window, codes)


class Journal:
    """The ready documents of a collection, and how long they took, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.parts = [StoredPart(line["document_id"], line["page_ids"]) for line in lines if "page_ids" in line]
        self._took = [(line["pages"], line["seconds"]) for line in lines if "seconds" in line]
        self.packing = next((line["packing"] for line in reversed(lines) if "packing" in line), "")
        """How the blobs of all documents are stored. "" until all are."""

    def add(self, part: StoredPart) -> None:
        self.parts.append(part)
        self._write(document_id=part.document_id, page_ids=list(part.page_ids))

    def add_run(self, pages: int, seconds: float) -> None:
        self._took.append((pages, seconds))
        self._write(pages=pages, seconds=round(seconds, 3))

    def add_packing(self, precision: BlobPrecision) -> None:
        self.packing = precision
        self._write(packing=precision)

    @property
    def seconds_a_page(self) -> float | None:
        """Over all runs that came to an end; None where there is none."""
        pages = sum(pages for pages, _ in self._took)
        return sum(seconds for _, seconds in self._took) / pages if pages else None

    def _write(self, **line: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class Ingester:
    """Fills one collection."""

    def __init__(self, services: Services, embedder: Embedder, collection: str, folder: Path) -> None:
        """`folder` gets the journal and the vectors."""
        self._services = services
        self._collection = collection
        self._folder = folder
        self.files = VectorFiles(folder / "vectors")
        self.journal = Journal(folder / "documents.jsonl")
        settings = services.settings
        self._pipeline = _pipeline(services, embedder, RecordingStore(services, self.files))
        self._submitter = Submitter(
            records=services.documents,
            blobs=services.blobs,
            queue=HeldJobs(),  # type: ignore[arg-type]  # of a queue, a submitter uses `publish` alone
            progress=services.progress,
            sandbox=Sandbox(processes=1, memory_bytes=1 << 30),
            max_pages=settings.api.max_pages,
            inspect_timeout_s=settings.api.inspect_timeout_s,
        )

    async def fill(self, dataset: VidoreDataset) -> Sequence[StoredPart]:
        """Ingest the pages that are not ready. Returns all documents in the order of the set. Raises BadDataset."""
        done = sum(len(part.page_ids) for part in self.journal.parts)
        began = time.perf_counter()
        width = self._services.settings.worker.jobs_in_flight
        async for part in map_ordered(self._ingest, _chunks(dataset.pages(done)), width=width):
            self.journal.add(part)
        if added := len(dataset.page_ids) - done:
            self.journal.add_run(added, time.perf_counter() - began)
            self.journal.add_packing(self._services.settings.vectors.blob_precision)
        return self.journal.parts

    async def _ingest(self, pages: Sequence[CorpusPage]) -> StoredPart:
        content = await asyncio.to_thread(pages_pdf, pages)
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._folder / f"{sha256[:16]}.pdf"
        await asyncio.to_thread(path.write_bytes, content)
        document = await self._submitter.submit(self._collection, Upload(path.name, path, sha256, len(content)))
        await asyncio.to_thread(path.unlink)
        if document.state is not DocumentState.READY:
            document = await self._attempt(document)
        return StoredPart(document.id, [page.id for page in pages])

    async def _attempt(self, document: Document) -> Document:
        key, value, headers = encode_job(IngestJob.of(document))
        while True:
            try:
                await self._pipeline.run(Record(("vidore", 0), 0, key, value, tuple(headers)))
                break
            except LeaseHeld:  # of a run that was killed a moment ago
                await asyncio.sleep(_LEASE_RETRY_S)
        found = await self._services.documents.get(document.id)
        if found is None or found.state is not DocumentState.READY:
            cause = "it is gone" if found is None else found.error or found.state.value
            raise BadDataset(f"document {document.id} did not become ready: {cause}")
        return found

    async def pack(self, precision: BlobPrecision) -> None:
        """Store the vectors of all documents as `precision` says, over those that are stored otherwise."""
        if self.journal.packing == precision:
            return
        services = self._services
        encoding = VectorEncoding(services.settings.vectors.index_pooling, precision)
        store = PageStore(services.documents, services.blobs, services.vectors, encoding)
        for part in self.journal.parts:
            document = await services.documents.get(part.document_id)
            if document is None:
                raise BadDataset(f"document {part.document_id} of an earlier run is gone; {_BEGIN_ANEW}")
            codes = store.code_writer(document, document.generation, 0)
            vectors = await asyncio.to_thread(self.files.read, part)
            window = [
                PageVectors(Page(number, 1, 1, b"", ""), document.page_key(number), of_page)
                for number, of_page in enumerate(vectors, start=1)
            ]
            await store.write_vectors(document, document.generation, window, codes)
            await codes.complete()
        self.journal.add_packing(precision)


def _pipeline(services: Services, embedder: Embedder, store: PageStore) -> Pipeline:
    """As a worker's, without converter, breakers and stall detector."""
    settings = services.settings
    return Pipeline(
        ledger=services.documents,
        blobs=services.blobs,
        store=store,
        renderer=PdfRenderer(settings.render, max_pages=settings.api.max_pages),
        embedder=embedder,
        progress=services.progress,
        outcomes=OutcomePublisher(
            ledger=services.documents,
            queue=services.queue,
            progress=services.progress,
            failures=FailureRun(settings.worker.failure_run_limit, on_limit=lambda cause: None),
            group=settings.kafka.kafka_group,
            max_attempts=settings.worker.max_attempts,
            retry_delays_s=settings.kafka.retry_delays_s,
        ),
        claims=Claims(services.documents, store, "vidore", settings.worker.lease_s),
        max_attempts=settings.worker.max_attempts,
        reader=OcrReader(
            settings.ocr, max_chars=settings.render.max_text_chars, embeds_text=not embedder.wants_pixels
        ),
    )


def _chunks(pages: Iterator[CorpusPage]) -> AsyncIterator[Sequence[CorpusPage]]:
    async def chunks() -> AsyncIterator[Sequence[CorpusPage]]:
        while chunk := await asyncio.to_thread(lambda: list(itertools.islice(pages, PAGES_OF_DOCUMENT))):
            yield chunk

    return chunks()
