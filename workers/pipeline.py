"""The life of a document inside a worker, from its claim to its verdict.

    claim -> fetch -> render -> embed -> store, checkpoint -> ready
                 | an error
                 v
          retry topic, or failed and a dead letter

Pages flow through in windows. Each stage runs one window ahead of the next, so that rendering, embedding and storing
overlap, and no stage holds more than a few windows, however long the document is. A second attempt goes on after the
last checkpoint. A stage that makes no progress ends the attempt (`workers.attempt.stall`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import structlog

from ingestion import metrics
from ingestion.concurrency.tasks import map_ordered, prefetch
from ingestion.errors import (
    AttemptsExhausted,
    BadMessage,
    Conflict,
    CorruptPdf,
    DependencyUnavailable,
    EmbedderNotCurrent,
    FailsAlone,
    IngestError,
    LeaseLost,
    NotFound,
    SourceMissing,
    Stalled,
    as_ingest_error,
)
from ingestion.messages import Record, decode_job
from ingestion.model import OUTAGES_FORGIVEN, Document, IngestJob, Page, PageVectors
from ingestion.ports import BlobStore, DocumentReader, Embedder, Ledger, PageSource, Progress, Renderer
from ingestion.retrying import retrying
from workers.attempt.claims import Claims, log_fields
from workers.attempt.isolation import SharedExclusiveLock
from workers.attempt.lease import Lease
from workers.attempt.outage_evidence import EMBEDDER, OutageEvidence
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.stall import StallDetector, WatchedAttempt, bytes_in
from workers.attempt.store import PageStore

log = structlog.get_logger(__name__)

_ALONE_AFTER_OUTAGES: Final = 2
_STORES: Final = ("mongodb", "s3", "milvus")
"""What a window of pages is written to."""


class PipelineRecords(DocumentReader, Ledger, Protocol):
    """What the pipeline itself reads and writes; its parts have ports of their own."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything that a document meets on its way."""

    documents: PipelineRecords
    blobs: BlobStore
    store: PageStore
    renderer: Renderer
    embedder: Embedder
    progress: Progress
    outcomes: OutcomePublisher
    claims: Claims
    max_attempts: int
    windows_in_embedder: int = 3
    windows_in_store: int = 2
    document_lock: SharedExclusiveLock = field(default_factory=SharedExclusiveLock)
    stalls: StallDetector = field(default_factory=StallDetector)
    evidence: OutageEvidence = field(default_factory=OutageEvidence)

    async def run(self, record: Record) -> None:
        """Bring the record's document to a verdict, or to its next attempt, and have that recorded and published.

        On return the record needs no more work. Raises LeaseHeld while another worker has the document,
        DependencyUnavailable where a server is down: then the job is still to be done, or to be told about. Running a
        job again is safe at any time.
        """
        try:
            job = decode_job(record.value)
        except BadMessage as error:
            await self.outcomes.reject(record, error)
            return
        try:
            await self.store.require_not_closed(job.collection, self.embedder)
            await self._work(job, record)
        except EmbedderNotCurrent as not_now:
            await self.outcomes.defer(job, record, not_now)

    async def _work(self, job: IngestJob, record: Record) -> None:
        async with AsyncExitStack() as place:
            try:
                await place.enter_async_context(await self._place(job))
                document = await self._claim(job)
            except (Conflict, NotFound) as nothing_to_do:
                log.info("skipped", document_id=job.document_id, cause=nothing_to_do.message)
                await self.outcomes.republish(job, record)
                return
            await self._attempt(document, record)

    async def _place(self, job: IngestJob) -> AbstractAsyncContextManager[None]:
        """The last attempt is made alone: whatever ended the ones before may have been a neighbour.

        So is one after several outages in a row: the neighbours show by then whether it brings a server down.

        Nobody is sent out of the room for a document that cannot be claimed yet.
        """
        await self.claims.clean_up(job.document_id)
        document = await self.documents.get(job.document_id)
        if document is not None:
            document.require_readable()
        if document is None or not self._is_suspect(document):
            return self.document_lock.shared()
        await self.documents.require_claimable(job.document_id)
        return self.document_lock.exclusive()

    def _is_suspect(self, document: Document) -> bool:
        return document.attempts + 1 == self.max_attempts or document.outages >= _ALONE_AFTER_OUTAGES

    async def _claim(self, job: IngestJob) -> Document:
        document = await self.claims.claim(job.document_id)
        log.info("claimed", **log_fields(document), resume_after_page=document.pages_done)
        return document

    async def _attempt(self, document: Document, record: Record) -> None:
        started = time.monotonic()
        error: IngestError | None = None
        lease = self.claims.lease(document)
        try:
            try:
                with self.stalls.watch(lease.abort) as stages:
                    settled, error = await self._under_lease(document, lease, stages)
            except Stalled as stalled:  # the lease is no longer extended; the verdict is guarded by the fence
                error = stalled
                settled = await self.outcomes.record_failure(document, error)
        except LeaseLost as lost:
            await self.claims.after_loss(lease.document, lost)
            return
        except DependencyUnavailable as outage:
            counts = self.evidence.add_outage(outage.dependency, document.id)
            await self.claims.release(lease.document, outage=counts)
            raise
        except BaseException:
            await self.claims.release(lease.document)
            raise
        seconds = time.monotonic() - started
        metrics.DURATION.labels(settled.state).observe(seconds)
        log.info("settled", **log_fields(settled), outcome=settled.state, seconds=round(seconds, 3), **_why(settled))
        await self.outcomes.publish(settled, record, error)

    async def _under_lease(
        self, document: Document, lease: Lease, stages: WatchedAttempt
    ) -> tuple[Document, IngestError | None]:
        """The document with its verdict, and the error that led to it. Raises Stalled where it has to be told yet."""
        async with lease:
            try:
                return await self._ingest(document, lease, stages), None
            except (EmbedderNotCurrent, LeaseLost):
                raise
            except Exception as cause:  # noqa: BLE001 - also what nobody foresaw is this attempt's
                error = as_ingest_error(cause)
                if isinstance(error, DependencyUnavailable):
                    error = self._fails_alone(lease.document, error)
                await lease.end()
                return await self.outcomes.record_failure(document, error), error
        raise AssertionError("a lease raises or lets its block return")

    def _fails_alone(self, document: Document, outage: DependencyUnavailable) -> FailsAlone:
        """What an outage is called that the document has to answer for. Raises `outage` while it has not."""
        if document.outages < OUTAGES_FORGIVEN or not self.evidence.is_suspect(outage.dependency, document.id):
            raise outage
        self.evidence.add_outage(outage.dependency, document.id)
        return FailsAlone(
            f"{outage.dependency} has failed at this document {document.outages + 1} times or more, and worked for "
            f"others in between: {outage.message}",
            stage=outage.stage,
        )

    async def _ingest(self, document: Document, lease: Lease, stages: WatchedAttempt) -> Document:
        if document.attempts > self.max_attempts:
            raise AttemptsExhausted(
                f"given up after {document.attempts - 1} attempts without a verdict", stage="claim"
            )
        async with self._source(document, stages) as path:
            with stages.stage("render"):
                source = await self.renderer.open(path, pixels=self.embedder.wants_pixels)
                if source.pages != document.pages:  # its page keys were reserved for so many
                    raise CorruptPdf(
                        f"the file has {source.pages} pages by this worker's count and had {document.pages} when it "
                        "was uploaded; delete the document and upload it again"
                    )
            with stages.stage("store"):
                generation = await self.store.prepare(document, self.embedder, lease.check)
                document = lease.document = await self.documents.plan(
                    document.id, document.fence, dpi=source.dpi, stage="processing", generation=generation
                )
                await self.store.confirm_generation(document, self.embedder)
            async with (
                prefetch(self._rendered(source, document.pages_done + 1, stages)) as rendered,
                prefetch(self._embedded(document, rendered, stages)) as embedded,
                aclosing(self._written(document, lease, embedded, stages)) as written,
            ):
                async for window in written:
                    with stages.stage("store"):
                        await self._checkpoint(document, window)
                    lease.document = replace(lease.document, outages=0)
        await lease.end()
        return await retrying(self.documents.finish, document.id, document.fence)

    @asynccontextmanager
    async def _source(self, document: Document, stages: WatchedAttempt) -> AsyncIterator[Path]:
        with tempfile.TemporaryDirectory(prefix="pagemill-") as folder:
            path = Path(folder) / "source.pdf"
            with stages.stage("fetch", lambda: bytes_in(Path(folder))):
                try:
                    await retrying(self.blobs.fetch_file, document.object_key, path)
                except NotFound as error:
                    raise SourceMissing(f"the uploaded file is gone from the object store: {error.message}") from error
            yield path

    async def _rendered(
        self, source: PageSource, first_page: int, stages: WatchedAttempt
    ) -> AsyncGenerator[list[Page], None]:
        windows = source.windows(first_page=first_page)
        while True:
            with stages.stage("render", lambda: source.render_calls):
                window = await anext(windows, None)
            if window is None:
                return
            yield window

    async def _embedded(
        self, document: Document, windows: AsyncIterator[list[Page]], stages: WatchedAttempt
    ) -> AsyncGenerator[list[PageVectors], None]:
        async def embedded(pages: list[Page]) -> list[PageVectors]:
            with stages.stage("embed"), metrics.EMBEDDING.time():
                vectors = await retrying(self.embedder.embed_pages, pages)
            self._worked(document, EMBEDDER)
            return [
                # The raw pixels have done their work; what waits to be stored should not hold them.
                PageVectors(replace(page, pixels=None), document.page_key(page.page_number), found)
                for page, found in zip(pages, vectors, strict=True)
            ]

        # One window alone could not fill a GPU that takes pages in batches.
        async with aclosing(map_ordered(embedded, windows, width=self.windows_in_embedder)) as ordered:
            async for window in ordered:
                yield window

    async def _written(
        self, document: Document, lease: Lease, windows: AsyncIterator[list[PageVectors]], stages: WatchedAttempt
    ) -> AsyncGenerator[list[PageVectors], None]:
        async def write(window: list[PageVectors]) -> list[PageVectors]:
            lease.check()
            with stages.stage("store"), metrics.STORING.time():
                await self.store.write(document, window)
            self._worked(document, *_STORES)
            return window

        # The objects of one window are uploaded while the rows of the one before are on their way.
        async with aclosing(map_ordered(write, windows, width=self.windows_in_store)) as ordered:
            async for window in ordered:
                yield window

    def _worked(self, document: Document, *dependencies: str) -> None:
        for dependency in dependencies:
            self.evidence.add_success(dependency, document.id)

    async def _checkpoint(self, document: Document, window: list[PageVectors]) -> None:
        """Of the last window the verdict tells."""
        done = window[-1].page.page_number
        if done < document.pages:
            await retrying(self.documents.checkpoint, document.id, document.fence, done)
        metrics.PAGES.inc(len(window))
        await self.progress.report(
            document.id, status="processing", message="reading pages", processed=done, total=document.pages
        )


def _why(document: Document) -> dict[str, str]:
    error = document.error
    return {"code": error.code, "stage": error.stage, "cause": error.message} if error else {}
