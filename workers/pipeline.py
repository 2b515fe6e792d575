"""The life of a document inside a worker, from its claim to its verdict.

    claim -> fetch -> render -> embed -> store, checkpoint -> ready

Pages flow through in windows. Each stage runs one window ahead of the next, so that rendering, embedding and storing
overlap, and no stage holds more than a few windows, however long the document is. A second attempt goes on after the
last checkpoint.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from ingestion import metrics
from ingestion.concurrency import ahead
from ingestion.errors import (
    AttemptsExhausted,
    Conflict,
    DependencyUnavailable,
    IngestError,
    LeaseLost,
    NotFound,
    SourceMissing,
    WorkerFault,
)
from ingestion.model import Document, DocumentState, Failure, IngestJob, Page, PageVectors
from ingestion.ports import BlobStore, DocumentStore, Embedder, JobQueue, Progress, Renderer
from workers.lease import Lease
from workers.store import PageStore, retrying

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything that a document meets on its way. `worker` names this process in leases and logs."""

    documents: DocumentStore
    blobs: BlobStore
    store: PageStore
    renderer: Renderer
    embedder: Embedder
    queue: JobQueue
    progress: Progress
    worker: str
    lease_s: float
    max_attempts: int

    async def run(self, job: IngestJob) -> None:
        """Bring the job's document to a verdict, `ready` or `failed`, and have it recorded and announced.

        Raises LeaseHeld while another worker has the document, DependencyUnavailable where a server is down: then
        nothing was decided and the job is still to be done. Running a job again is safe at any time.
        """
        try:
            document = await self.documents.claim(job.document_id, self.worker, lease_ms=round(self.lease_s * 1000))
        except (Conflict, NotFound) as nothing_to_do:
            await self._skip(job, nothing_to_do)
            return
        started = time.monotonic()
        log.info("claimed", **_of(document), resume_after_page=document.pages_done)
        try:
            async with Lease(self.documents, document, self.lease_s):
                settled = await self._settle(document)
        except LeaseLost as lost:
            await self._leave(document, lost)
            return
        except BaseException:
            await self._release(document)
            raise
        seconds = time.monotonic() - started
        metrics.FILES.labels(settled.state).inc()
        metrics.DURATION.labels(settled.state).observe(seconds)
        log.info("settled", **_of(settled), outcome=settled.state, seconds=round(seconds, 3), **_why(settled))
        await self._tell(settled)

    async def _skip(self, job: IngestJob, reason: IngestError) -> None:
        """The document is settled or deleted. Its verdict may still be unannounced, if a crash came in between."""
        log.info("skipped", document_id=job.document_id, cause=reason.message)
        document = await self.documents.get(job.document_id)
        if document is not None and document.state.is_settled:
            await retrying(self.queue.announce, document)

    async def _settle(self, document: Document) -> Document:
        """The verdict. Only a server that is down, and the loss of the lease, are not the document's own."""
        try:
            return await self._ingest(document)
        except (DependencyUnavailable, LeaseLost):
            raise
        except IngestError as error:
            failure = Failure(error.code, error.stage or "ingest", error.message)
            return await retrying(self.documents.fail, document.id, document.fence, failure)

    async def _ingest(self, document: Document) -> Document:
        if document.attempts > self.max_attempts:
            raise AttemptsExhausted(
                f"given up after {document.attempts - 1} attempts without a verdict", stage="claim"
            )
        async with self._source(document) as path:
            with _stage("render"):
                source = await self.renderer.open(path, pixels=self.embedder.wants_pixels)
            with _stage("store"):
                await self.store.prepare(document, self.embedder)
            await self.documents.plan(document.id, document.fence, dpi=source.dpi, stage="processing")
            pages = source.windows(first_page=document.pages_done + 1)
            async with (
                ahead(self._rendered(pages)) as rendered,
                ahead(self._embedded(document, rendered)) as embedded,
            ):
                async for window in embedded:
                    await self._stored(document, window)
        return await retrying(self.documents.finish, document.id, document.fence)

    @asynccontextmanager
    async def _source(self, document: Document) -> AsyncIterator[Path]:
        with tempfile.TemporaryDirectory(prefix="pagemill-") as folder:
            path = Path(folder) / "source.pdf"
            with _stage("fetch"):
                try:
                    await retrying(self.blobs.fetch_file, document.object_key, path)
                except NotFound as error:
                    raise SourceMissing(f"the uploaded file is gone from the object store: {error.message}") from error
            yield path

    async def _rendered(self, windows: AsyncIterator[list[Page]]) -> AsyncGenerator[list[Page], None]:
        with _stage("render"):
            async for window in windows:
                yield window

    async def _embedded(
        self, document: Document, windows: AsyncIterator[list[Page]]
    ) -> AsyncGenerator[list[PageVectors], None]:
        async for pages in windows:
            with _stage("embed"), metrics.EMBEDDING.time():
                vectors = await retrying(self.embedder.embed_pages, pages)
            yield [
                # The raw pixels have done their work; what waits to be stored should not hold them.
                PageVectors(replace(page, pixels=None), document.page_key(page.page_number), found)
                for page, found in zip(pages, vectors, strict=True)
            ]

    async def _stored(self, document: Document, window: list[PageVectors]) -> None:
        with _stage("store"), metrics.STORING.time():
            await self.store.write(document, window)
        done = window[-1].page.page_number
        await retrying(self.documents.checkpoint, document.id, document.fence, done)
        metrics.PAGES.inc(len(window))
        await self.progress.report(
            document.id, status="processing", message="reading pages", processed=done, total=document.pages
        )

    async def _tell(self, settled: Document) -> None:
        """After the verdict is durable: progress, totals, and the event, which other systems wait for."""
        message = settled.error.message if settled.error else "searchable"
        await self.progress.report(
            settled.id, status=settled.state, message=message, processed=settled.pages_done, total=settled.pages
        )
        pages = settled.pages if settled.state is DocumentState.READY else 0
        await self.progress.add(**{settled.state.value: 1, "pages": pages})
        await retrying(self.queue.announce, settled)

    async def _leave(self, document: Document, lost: LeaseLost) -> None:
        """Somebody else owns the document now. If that was a delete, what this worker wrote late is taken back."""
        current = await self.documents.get(document.id)
        again = current is not None and current.state is not DocumentState.DELETING
        deleted = current is None or not again or current.first_page_key != document.first_page_key
        log.warning("lease lost", **_of(document), deleted=deleted, cause=lost.message)
        if deleted:
            await self.store.sweep(document, objects=not again)

    async def _release(self, document: Document) -> None:
        """On shutdown or an outage: let go of the document at once, as well as that is possible."""
        try:
            await self.documents.release(document.id, document.fence)
        except IngestError as error:
            log.warning("lease not released, it will expire", **_of(document), cause=error.message)


@contextmanager
def _stage(name: str) -> Iterator[None]:
    """Give every error the stage it arose in; one that nobody foresaw becomes a WorkerFault."""
    try:
        yield
    except IngestError as error:
        error.stage = error.stage or name
        raise
    except Exception as error:
        raise WorkerFault(f"{type(error).__name__}: {error}", stage=name) from error


def _of(document: Document) -> dict[str, object]:
    return {"document_id": document.id, "attempt": document.attempts, "collection": document.collection}


def _why(document: Document) -> dict[str, str]:
    error = document.error
    return {"code": error.code, "stage": error.stage, "cause": error.message} if error else {}
