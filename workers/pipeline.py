"""The life of a document in a worker, from its claim to its outcome.

    claim -> fetch -> convert -> render -> read -> embed -> store, checkpoint -> ready
                 | an error
                 v
          retry topic, or failed and a dead letter

Pages pass through in windows. Each stage is one window ahead of the next, so rendering, embedding and storing overlap,
and no stage holds more than a few windows, however long the document is. The next attempt resumes after the last
checkpoint. A stage that makes no progress ends the attempt (`workers.attempt.stall`).

Besides its pages and its heartbeats, a first attempt sends seven commands to MongoDB:

    1  read the document      decides whether the attempt needs the exclusive lock; an unreadable record is not claimed
    2  claim it               compare-and-set: one worker has it
    3  read it                shows whether the claim was granted, and where to resume
    4  read the collection    after the claim, so that a re-embedding that begins later finds the claim and revokes it
    5  change its version     before the document becomes ready, so that no cached answer stays valid
    6  make it ready          compare-and-set under the fence
    7  change its version     after it, so that answers may be cached again

The first document of a collection costs two more, which create its record. `plan` costs two more for a later attempt,
for another generation of the collection's vectors, and for a converted file, whose pages are counted then.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import structlog

from ingestion import metrics
from ingestion.concurrency.tasks import map_ordered, prefetch
from ingestion.errors import (
    AttemptsExhausted,
    BadMessage,
    Conflict,
    DependencyUnavailable,
    EmbedderNotCurrent,
    IngestError,
    LeaseLost,
    NotFound,
    Stalled,
    as_ingest_error,
)
from ingestion.messages import Record
from ingestion.model import Document, IngestJob, Note, Page, PageVectors, TextPages, merged_notes
from ingestion.ports import (
    BlobStore,
    Converter,
    DocumentReader,
    Embedder,
    Ledger,
    PageSource,
    Progress,
    Renderer,
    TextReader,
)
from ingestion.retrying import retrying
from ingestion.tracing import Span, span
from workers.attempt.claims import Claims, log_fields, span_attributes
from workers.attempt.code_writer import CodeWriter
from workers.attempt.isolation import SharedExclusiveLock, is_suspect
from workers.attempt.lease import Lease
from workers.attempt.offers import OfferRefused
from workers.attempt.outage_evidence import EMBEDDER, OutageEvidence
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.source import open_source
from workers.attempt.stall import StallDetector, WatchedAttempt
from workers.attempt.store import PageStore
from workers.attempt.texts import with_text
from workers.rendering.page_count import with_counted_pages

log = structlog.get_logger(__name__)

_STORES: Final = ("mongodb", "s3", "milvus")
"""The servers that a window of pages is written to."""


class PipelineLedger(DocumentReader, Ledger, Protocol):
    """The records that the pipeline itself reads and writes. Its parts have their own ports."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Ingests documents. One pipeline serves all jobs of a worker."""

    ledger: PipelineLedger
    blobs: BlobStore
    store: PageStore
    renderer: Renderer
    embedder: Embedder
    progress: Progress
    outcomes: OutcomePublisher
    claims: Claims
    max_attempts: int
    converter: Converter | None = None
    reader: TextReader | None = None
    windows_in_embedder: int = 3
    windows_in_store: int = 2
    document_lock: SharedExclusiveLock = field(default_factory=SharedExclusiveLock)
    stalls: StallDetector = field(default_factory=StallDetector)
    evidence: OutageEvidence = field(default_factory=OutageEvidence)

    async def run(self, record: Record) -> None:
        """Make one attempt at the record's document. Record and publish its outcome, or its next attempt.

        On return the record needs no more work. Raises LeaseHeld while another worker has the document, and
        DependencyUnavailable where a server is down: then run the record again later. Running it again is always safe.
        Raises OfferRefused for an offered record whose document is not for this worker now.
        """
        try:
            job = record.job
        except BadMessage as error:
            await self.outcomes.reject(record, error)
            return
        try:
            await self.store.require_current(job.collection, self.embedder)
            await self._work(job, record)
        except EmbedderNotCurrent as error:
            if record.is_offer:
                raise OfferRefused(job.collection) from error
            await self.outcomes.defer(job, record, error)

    async def _work(self, job: IngestJob, record: Record) -> None:
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(await self._lock(job))
                document = await self.claims.claim(job.document_id, delivery=record.delivery)
            except (Conflict, NotFound) as nothing_to_do:
                if record.is_offer:
                    raise OfferRefused from nothing_to_do
                log.info("skipped", document_id=job.document_id, cause=nothing_to_do.message)
                await self.outcomes.republish(job, record)
                return
            log.info("claimed", **log_fields(document), resume_after_page=document.pages_done)
            with span("attempt", attributes=span_attributes(document)) as attempt:
                await self._attempt(document, record, attempt)

    async def _lock(self, job: IngestJob) -> AbstractAsyncContextManager[None]:
        """The lock for the attempt: shared, or exclusive for a suspect document.

        Check that the document can be claimed before taking the exclusive lock.
        """
        await self.claims.clean_up(job.document_id)
        document = await self.ledger.get(job.document_id)
        if document is not None:
            document.require_readable()
        if document is None or not is_suspect(document, self.max_attempts):
            return self.document_lock.shared()
        await self.ledger.require_claimable(job.document_id)
        return self.document_lock.exclusive()

    async def _attempt(self, document: Document, record: Record, attempt: Span) -> None:
        started = time.monotonic()
        error: IngestError | None = None
        lease = self.claims.lease(document)
        try:
            try:
                with self.stalls.watch(lease.abort) as watched:
                    settled, error = await self._under_lease(document, lease, watched)
            except Stalled as stalled:  # the lease is no longer extended, but the fence guards the outcome
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
        attempt.set({"pagemill.outcome": settled.state.value})
        if error is not None:
            attempt.fail(error.code)
        await self.outcomes.settle(settled, record, error, seconds=time.monotonic() - started)

    async def _under_lease(
        self, document: Document, lease: Lease, watched: WatchedAttempt
    ) -> tuple[Document, IngestError | None]:
        """The document with its recorded outcome, and its error. Raises Stalled before an outcome is recorded."""
        async with lease:
            try:
                return await self._ingest(document, lease, watched), None
            except (EmbedderNotCurrent, LeaseLost):
                raise
            except Exception as cause:  # noqa: BLE001 - an unforeseen error belongs to this attempt, too
                error = as_ingest_error(cause)
                if isinstance(error, DependencyUnavailable):
                    error = self.evidence.require_guilty(lease.document, error)
                await lease.end()
                return await self.outcomes.record_failure(document, error), error
        raise AssertionError("a lease raises or lets its block return")

    async def _ingest(self, document: Document, lease: Lease, watched: WatchedAttempt) -> Document:
        if document.attempts > self.max_attempts:
            raise AttemptsExhausted(f"{document.attempts - 1} attempts ended without an outcome", stage="claim")
        async with open_source(document, self.blobs, self.converter, watched) as path:
            with watched.stage("render", step="open"):
                source = await self.renderer.open(path, pixels=self.embedder.wants_pixels, caller=document.turn_name)
                counted = with_counted_pages(document, source)
            with watched.stage("store", step="prepare"):
                generation = await self.store.prepare(counted, self.embedder, lease.check)
                document = lease.document = await self._plan(document, counted, source.dpi, generation)
            codes = self.store.code_writer(document, document.generation, document.pages_done)
            # A record of an earlier release does not say where the texts of its first pages came from.
            texts = document.text_pages if document.pages_done else TextPages()
            notes = merged_notes(document.notes if document.pages_done else (), source.notes)
            async with (
                prefetch(self._rendered(source, document.pages_done + 1, watched)) as rendered,
                prefetch(with_text(rendered, self.reader, document, watched)) as read,
                prefetch(self._embedded(document, read, watched)) as embedded,
                aclosing(self._written(lease, embedded, codes, watched)) as written,
            ):
                async for window in written:
                    texts = texts and texts.plus(window)
                    notes = merged_notes(notes, (note for entry in window for note in entry.page.notes))
                    with watched.stage("store", step="checkpoint"):
                        await self._checkpoint(document, window, texts, notes)
                    lease.document = replace(lease.document, outages=0)
            lease.check()
            with watched.stage("store", lambda: self.store.writes, step="complete"):
                completed = await self.store.completed(document, codes, lease.check)
                document = replace(completed, text_pages=texts, notes=notes)
        await lease.end()
        with span("ready"):
            return await retrying(self.ledger.finish, document)

    async def _plan(self, document: Document, counted: Document, dpi: int, generation: int) -> Document:
        """Record the generation and the page count before pages are written. Most new records have the right ones."""
        if document.generation == generation and document.pages == counted.pages and not document.is_begun_anew:
            return replace(document, dpi=dpi)
        return await self.ledger.plan(
            document.id, document.fence, dpi=dpi, stage="processing", pages=counted.pages, generation=generation
        )

    async def _rendered(
        self, source: PageSource, first_page: int, watched: WatchedAttempt
    ) -> AsyncGenerator[list[Page], None]:
        windows = source.windows(first_page=first_page)
        while True:
            with watched.stage("render", lambda: source.render_calls):
                window = await anext(windows, None)
            if window is None:
                return
            yield window

    async def _embedded(
        self, document: Document, windows: AsyncIterator[list[Page]], watched: WatchedAttempt
    ) -> AsyncGenerator[list[PageVectors], None]:
        async def embedded(pages: list[Page]) -> list[PageVectors]:
            with watched.stage("embed"), metrics.EMBEDDING.time():
                vectors = await retrying(self.embedder.embed_pages, pages)
            self.evidence.add_success(EMBEDDER, document_id=document.id)
            return [
                # Drop the raw pixels: pages that wait to be stored should not hold them.
                PageVectors(replace(page, pixels=None), document.page_key(page.page_number), found)
                for page, found in zip(pages, vectors, strict=True)
            ]

        # One window alone could not fill a GPU that takes pages in batches.
        async with aclosing(map_ordered(embedded, windows, width=self.windows_in_embedder)) as ordered:
            async for window in ordered:
                yield window

    async def _written(
        self, lease: Lease, windows: AsyncIterator[list[PageVectors]], codes: CodeWriter, watched: WatchedAttempt
    ) -> AsyncGenerator[list[PageVectors], None]:
        document = lease.document

        async def write(window: list[PageVectors]) -> list[PageVectors]:
            lease.check()
            with watched.stage("store", step="write"), metrics.STORING.time():
                await self.store.write(document, window, codes)
            self.evidence.add_success(*_STORES, document_id=document.id)
            return window

        # The objects of a window are uploaded while the rows of the previous window are being written.
        async with aclosing(map_ordered(write, windows, width=self.windows_in_store)) as ordered:
            async for window in ordered:
                yield window

    async def _checkpoint(
        self, document: Document, window: list[PageVectors], texts: TextPages | None, notes: tuple[Note, ...]
    ) -> None:
        """The last window needs no checkpoint: `finish` records it."""
        done = window[-1].page.page_number
        if done < document.pages:
            await retrying(self.ledger.checkpoint, document.id, document.fence, done, texts, notes)
        metrics.PAGES.inc(len(window))
        await self.progress.report(
            document.id, status="processing", message="reading pages", processed=done, total=document.pages
        )
