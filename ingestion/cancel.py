"""Cancel documents that are not finished: their work stops, and what it has written is removed.

The steps, each safe to repeat: the state becomes `cancelling` and the fence grows, so that a worker that has the
document loses it at its next write of a record, after one window of pages at most; vectors, page records and objects
of pages are removed; the state becomes `cancelled`. The uploaded file stays. A worker that was late removes what it
has written since, as after a delete. The janitor finishes a cancellation that was cut off.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ingestion.concurrency.deadline import budget
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import DependencyUnavailable, RetryableError
from ingestion.filters import Filter
from ingestion.model import Document, DocumentState, check_qualified, converted_key, first_fence, pages_prefix
from ingestion.ports import (
    Bindings,
    BlobStore,
    Cancellations,
    CollectionCatalogue,
    DocumentReader,
    JobQueue,
    PageRecords,
    Progress,
    VectorStore,
)

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 16
_LEAST_PAGES_PER_S: Final = 100
"""The budget of a document grows by one second for each of this many pages."""


class CancelRecords(DocumentReader, Cancellations, PageRecords, CollectionCatalogue, Bindings, Protocol):
    """The records that a cancellation reads and writes."""


@dataclass(frozen=True, slots=True)
class CancelResult:
    """`cancelled`: the documents that are cancelled now. `cancelling`: those that the janitor finishes."""

    cancelled: int
    cancelling: int


@dataclass(frozen=True, slots=True)
class Canceller:
    """`budget_s` limits the time of the stores for one document, or for the documents of one collection.

    None leaves only the stores' own limits.
    """

    records: CancelRecords
    vectors: VectorStore
    blobs: BlobStore
    queue: JobQueue
    progress: Progress
    budget_s: float | None = None

    async def cancel_document(self, document_id: str) -> Document:
        """Cancel the document and return its record. A cancelled document stays as it is.

        Raises NotFound, CollectionArchived, Conflict for a document that is not in work. Raises DependencyUnavailable
        and leaves the document as `cancelling`: repeat the call, or leave it to the janitor.
        """
        with self._budget():
            document = await self.records.begin_cancel(document_id)
        if document.state is DocumentState.CANCELLED:
            return document
        await self.finish_cancel(document)
        with self._budget():
            return await self.records.get(document_id) or document

    async def cancel_collection(self, collection: str, where: Filter | None = None) -> CancelResult:
        """Cancel all unfinished documents of the collection that the filter selects.

        Work on all of them stops at once. Documents that are not cleaned up within the budget stay `cancelling`, and
        the janitor finishes them. Raises BadRequest, CollectionArchived, DependencyUnavailable.
        """
        check_qualified(collection)
        with self._budget():
            await self.records.require_active(collection)
            begun = await self.records.begin_cancels(collection, where)
        if not begun:
            return CancelResult(0, 0)
        log.info("cancelling", collection=collection, documents=begun)
        cancelled = 0
        after = ""
        try:
            with self._budget():
                while batch := await self.records.being_cancelled(collection, _AT_ONCE, after=after):
                    done = await gather_or_cancel(*map(self._finish, batch))
                    cancelled += sum(done)
                    after = batch[-1].id
        except DependencyUnavailable as error:
            log.warning("left to the janitor", collection=collection, cause=error.message)
        return CancelResult(cancelled, max(0, begun - cancelled))

    async def finish_cancel(self, document: Document) -> bool:
        """Continue a cancellation that has begun. Returns False if another process has finished it.

        Raises DependencyUnavailable and leaves the document as `cancelling`.
        """
        with self._budget(document.pages / _LEAST_PAGES_PER_S):
            return await self._finish(document)

    async def _finish(self, document: Document) -> bool:
        if not _was_never_claimed(document):
            await self._take_back(document)
        cancelled = await self.records.end_cancel(document)
        if cancelled is None:
            return False
        await self.progress.report(
            document.id, status=cancelled.state, message="cancelled", processed=0, total=document.pages
        )
        log.info("cancelled", document_id=document.id, collection=document.collection)
        try:
            await self.queue.announce(cancelled)
        except RetryableError as error:
            log.warning("cancellation not announced", document_id=document.id, cause=str(error))
        return True

    async def _take_back(self, document: Document) -> None:
        """Remove what workers have written. The document cannot be uploaded again before the state changes."""
        binding = await self.records.binding(document.collection)
        for index in [document.collection] if binding is None else binding.indexes:
            await self.vectors.delete_pages(index, document.first_page_key, document.pages)
        await self.records.remove_pages(document.first_page_key, document.pages)
        await self.blobs.delete_prefix(pages_prefix(document.id))
        if document.is_converted:
            await self.blobs.delete([converted_key(document.id)])

    def _budget(self, more_s: float = 0.0) -> AbstractContextManager[None]:
        return nullcontext() if self.budget_s is None else budget(self.budget_s + more_s)


def _was_never_claimed(document: Document) -> bool:
    """Whether the only change of the fence is the one with which the cancellation began."""
    return document.fence == first_fence(document.first_page_key) + 1
