"""Accept an uploaded file: validate, store, record, publish. Each step may be repeated, so the whole may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import structlog

from ingestion.concurrency.deadline import budget
from ingestion.errors import CollectionArchived, Conflict, RetryableError
from ingestion.inspection import Inspector
from ingestion.model import (
    Document,
    DocumentState,
    IngestJob,
    check_collection,
    document_id,
    document_prefix,
    first_fence,
    source_key,
)
from ingestion.ports import (
    ArchivedDocuments,
    BlobStore,
    CollectionCatalogue,
    Deletions,
    DocumentReader,
    JobQueue,
    Outbox,
    Progress,
    Uploads,
)
from ingestion.retrying import retrying
from ingestion.sandbox.pool import Sandbox
from ingestion.server_cooldown import ServerCooldown

log = structlog.get_logger(__name__)

PDF_CONTENT_TYPE: Final = "application/pdf"
_LEAST_BYTES_PER_S: Final = 1024**2
"""By which the budget of a file grows with its size."""
_PUBLISH_S: Final = 5.0
"""For which an upload waits for the broker. The janitor publishes what is left."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived and rests at `path`. `filename` is as `model.clean_filename` made it."""

    filename: str
    path: Path
    sha256: str
    size_bytes: int


class UploadRecords(Uploads, DocumentReader, Deletions, Outbox, CollectionCatalogue, ArchivedDocuments, Protocol):
    """What an upload reads and writes."""


class Submitter:
    """Turns uploads into documents. The caller keeps the local file until `submit` is through with it."""

    def __init__(
        self,
        *,
        documents: UploadRecords,
        blobs: BlobStore,
        queue: JobQueue,
        progress: Progress,
        sandbox: Sandbox,
        max_pages: int,
        inspect_timeout_s: float,
        store_budget_s: float = 15.0,
        inspect_processes: int = 1,
    ) -> None:
        """`sandbox` looks into files: at `inspect_processes` at a time, and at one more that takes long."""
        self._documents = documents
        self._blobs = blobs
        self._queue = queue
        self._progress = progress
        self._store_budget_s = store_budget_s
        self._broker = ServerCooldown()
        self._inspector = Inspector(
            sandbox, processes=inspect_processes, max_pages=max_pages, timeout_s=inspect_timeout_s
        )

    async def submit(self, collection: str, upload: Upload) -> Document:
        """Accept `upload` for `collection`; on return its record is durable, whatever becomes of the broker.

        The same file under the same name is the same document: it is returned as it stands, and put to work again
        only where it had failed or its job never reached the broker.

        Raises BadRequest, EmptyFile, NotAPdf, EncryptedPdf, CorruptPdf, NoPages, TooManyPages, Conflict where the
        document is being deleted, CollectionArchived, DependencyUnavailable where a store is down.
        """
        check_collection(collection)
        id_ = document_id(collection, upload.filename, upload.sha256)
        with budget(self._store_budget_s):
            await self._documents.require_active(collection)
            known = await self._documents.get(id_)
        if known is None:  # looked at outside of the budget: opening it is no store's work
            pages = (await self._inspector.inspect(upload.path, caller=collection)).pages
        with budget(self._store_budget_s + upload.size_bytes / _LEAST_BYTES_PER_S):
            if known is None:
                document = await self._accept(collection, id_, upload, pages)
            else:
                document = await self._accept_again(known, upload)
        is_done = document.outbox == "sent" or not document.is_readable
        return document if is_done else await self._publish(document)

    async def _accept(self, collection: str, id_: str, upload: Upload, pages: int) -> Document:
        key = source_key(id_)
        await retrying(self._blobs.put_file, key, upload.path, PDF_CONTENT_TYPE)
        first_page_key = await self._documents.reserve_page_keys(pages)
        document = Document(
            id=id_,
            collection=collection,
            filename=upload.filename,
            object_key=key,
            sha256=upload.sha256,
            size_bytes=upload.size_bytes,
            pages=pages,
            first_page_key=first_page_key,
            fence=first_fence(first_page_key),
        )
        # After an error the record may exist or not, and so it is open whether the source is needed. The audit removes
        # a source without a record.
        inserted = await self._documents.insert(document)
        if not inserted:  # The same upload arrived twice at once, and the other one was quicker.
            winner = await self._documents.get(id_)
            if winner is None:
                raise Conflict(f"{upload.filename!r} was deleted from {collection!r} while it was being uploaded")
            return await self._accept_again(winner, upload)
        await self._require_active_still(document)
        log.info("received", document_id=id_, collection=collection, pages=pages, size_bytes=upload.size_bytes)
        await self._report_queued(document)
        return document

    async def _accept_again(self, known: Document, upload: Upload) -> Document:
        if known.state in (DocumentState.DELETING, DocumentState.DELETED):
            raise Conflict(f"{known.filename!r} is being deleted from {known.collection!r}; upload it again later")
        if known.state is not DocumentState.FAILED:
            return known
        # The source may be what was wrong: a failed document gets its bytes again.
        await retrying(self._blobs.put_file, known.object_key, upload.path, PDF_CONTENT_TYPE)
        if await self._documents.requeue(known.id):
            log.info("requeued", document_id=known.id, was=known.error.code if known.error else "")
            await self._report_queued(known)
        return await self._documents.get(known.id) or known

    async def _publish(self, document: Document) -> Document:
        """Hand the job to the broker. Where that fails the outbox stays pending, and the janitor publishes later.

        A broker that has kept one upload waiting is not asked again for a while, by this upload's other files neither.
        """
        if self._broker.is_cooling_down:
            log.info("publish postponed", document_id=document.id, cause="the broker did not answer lately")
            return document
        try:
            with self._broker.request(), budget(_PUBLISH_S):
                await self._queue.publish(IngestJob.of(document))
            with budget(self._store_budget_s):
                await self._documents.mark_queued(document)
        except RetryableError as error:
            log.warning("publish postponed", document_id=document.id, cause=str(error))
            return document
        state = DocumentState.QUEUED if document.state is DocumentState.RECEIVED else document.state
        return replace(document, state=state, outbox="sent")

    async def _report_queued(self, document: Document) -> None:
        """Before the job is published, so that it never hides what a quick worker reports."""
        await self._progress.report(
            document.id, status="queued", message="waiting for a worker", processed=0, total=document.pages
        )

    async def _require_active_still(self, document: Document) -> None:
        """Delete the document again where the collection has been closed meanwhile. Raises CollectionArchived then.

        Archiving closes the collection and then looks for documents. This upload records the document and then looks
        at the collection. So one of the two notices the other.
        """
        try:
            await self._documents.require_active(document.collection)
        except CollectionArchived:
            await self._documents.begin_delete(document.id)
            await self._documents.remove(document)
            await self._discard_unrecorded(document.id)
            raise

    async def _discard_unrecorded(self, id_: str) -> None:
        """Delete the source, unless a record or an archive needs it. It is kept while the records cannot be read."""
        try:
            if await self._documents.get(id_) is None and not await self._documents.archived_ids([id_]):
                await self._blobs.delete_prefix(document_prefix(id_))
        except RetryableError as error:
            log.warning("source left behind", document_id=id_, cause=str(error))
