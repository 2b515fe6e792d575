"""Accept an uploaded file: validate, store, record, publish. Each step is safe to repeat."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import structlog

from ingestion.concurrency.deadline import budget
from ingestion.document_patch import patch_document
from ingestion.errors import CollectionArchived, Conflict, RetryableError
from ingestion.formats.identify import identify
from ingestion.formats.media_types import MediaType, content_type_of, media_type_of
from ingestion.model import (
    CANCELLATION,
    Document,
    DocumentState,
    IngestJob,
    Metadata,
    Priority,
    check_qualified,
    document_id,
    document_prefix,
    first_fence,
    source_key,
    tenant_of,
)
from ingestion.pdf.inspector import Inspector
from ingestion.ports import (
    ArchivedDocuments,
    BlobStore,
    Cancellations,
    CollectionCatalogue,
    Deletions,
    DocumentReader,
    JobQueue,
    MetadataRecords,
    Outbox,
    Progress,
    Revisions,
    Uploads,
)
from ingestion.retrying import retrying
from ingestion.sandbox.pool import Sandbox
from ingestion.server_cooldown import ServerCooldown
from ingestion.tracing import current_origin, span

log = structlog.get_logger(__name__)

_LEAST_BYTES_PER_S: Final = 1024**2
"""The budget of a file grows by one second for each of this many bytes."""
_NO_TWIN: Final = (DocumentState.FAILED, *CANCELLATION)
"""The states of documents that an upload of the same bytes does not take for its own."""
_PUBLISH_S: Final = 5.0
"""How long an upload waits for the broker. After that the janitor publishes the job."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file at `path`. `filename` is a result of `model.clean_filename`."""

    filename: str
    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What the user says about a file.

    `key`: the document replaces the one with the same key in the collection once it is ready. "" is no key.
    `skip_duplicates`: store nothing where the collection has the same bytes already, except for a file with a key.
    """

    metadata: Metadata = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    key: str = ""
    skip_duplicates: bool = False
    priority: Priority = Priority.BULK


Reserve = Callable[[str, int, int], AbstractAsyncContextManager[None]]


class UploadRecords(
    Uploads,
    DocumentReader,
    Deletions,
    Cancellations,
    Outbox,
    CollectionCatalogue,
    ArchivedDocuments,
    MetadataRecords,
    Revisions,
    Protocol,
):
    """The ports that an upload uses."""


class Submitter:
    """Turns uploads into documents. The caller keeps the local file until `submit` has returned or raised."""

    def __init__(
        self,
        *,
        records: UploadRecords,
        blobs: BlobStore,
        queue: JobQueue,
        progress: Progress,
        sandbox: Sandbox,
        max_pages: int,
        inspect_timeout_s: float,
        store_budget_s: float = 15.0,
        inspect_processes: int = 1,
        with_office: bool = True,
        reserve: Reserve | None = None,
    ) -> None:
        """`sandbox` inspects `inspect_processes` files at once, and one more file that takes long.

        `with_office`: accept office files and texts, which a worker converts. `reserve` counts a new file of a tenant:
        it gets the tenant, bytes and pages, and raises where they exceed a quota. Its block stores the file.
        """
        self._records = records
        self._blobs = blobs
        self._queue = queue
        self._progress = progress
        self._store_budget_s = store_budget_s
        self._broker = ServerCooldown()
        self._sandbox = sandbox
        self._with_office = with_office
        self._reserve: Reserve = reserve or (lambda *_: nullcontext())
        self._inspector = Inspector(
            sandbox, processes=inspect_processes, max_pages=max_pages, timeout_s=inspect_timeout_s
        )

    async def submit(self, collection: str, upload: Upload, options: UploadOptions | None = None) -> Document:
        """Accept `upload` for `collection`. On return its record is durable, also if the broker is unavailable.

        The same file under the same name and key is the same document. Its metadata are merged with the given ones,
        and given tags replace its tags. If it had failed, it is processed again; if it was cancelled, it begins anew.
        A job that never reached the broker is published.

        The pages of a PDF are counted here. Files of other types are converted, and their pages counted, by a worker.

        Raises BadRequest, EmptyFile, NotAPdf, UnsupportedType, ConversionFailed, EncryptedPdf, CorruptPdf, NoPages,
        TooManyPages, CollectionArchived, Conflict if the document is being deleted or cancelled, DependencyUnavailable
        if a store is unavailable.
        """
        check_qualified(collection)
        options = options or UploadOptions()
        id_ = document_id(collection, upload.filename, upload.sha256, options.key)
        with budget(self._store_budget_s):
            await self._records.require_active(collection)
            known = await self._records.get(id_)
            twin = None if known else await self._records.with_content(collection, upload.sha256)
        if twin is not None and options.skip_duplicates and not options.key and twin.state not in _NO_TWIN:
            return replace(twin, duplicate_of=twin.id)
        cancelled = known if known is not None and known.state is DocumentState.CANCELLED else None
        if known is None or cancelled:  # outside of the budget, which is for the stores
            media_type = await identify(self._sandbox, upload.path, upload.filename, with_office=self._with_office)
            pages = await self._count_pages(upload.path, collection) if media_type is MediaType.PDF else 0
        with budget(self._store_budget_s + upload.size_bytes / _LEAST_BYTES_PER_S):
            if known is None or cancelled:
                origin = replace(_new_document(collection, id_, upload, options, media_type), pages=pages)
                origin = replace(origin, duplicate_of=twin.id if twin else "")
                document = await self._accept(origin, upload, options, cancelled)
            else:
                document = await self._accept_again(known, upload, options)
        is_done = document.outbox == "sent" or not document.is_readable
        return document if is_done else await self._publish(document)

    async def _count_pages(self, path: Path, collection: str) -> int:
        with span("inspect"):
            return (await self._inspector.inspect(path, caller=collection)).pages

    async def _accept(
        self, document: Document, upload: Upload, options: UploadOptions, cancelled: Document | None
    ) -> Document:
        """`cancelled`: the record that the new one takes the place of."""
        id_, collection, media_type = document.id, document.collection, MediaType(document.media_type)
        size_bytes = upload.size_bytes
        async with self._reserve(tenant_of(collection), size_bytes, document.pages):
            with span("store source", attributes={"pagemill.document.id": id_, "pagemill.bytes": size_bytes}):
                await retrying(self._blobs.put_file, document.object_key, upload.path, content_type_of(media_type))
            first_page_key = await self._records.reserve_page_keys(document.pages or media_type.most_pages)
        revision = first_page_key if options.key else 0
        document = replace(
            document, first_page_key=first_page_key, fence=first_fence(first_page_key), revision=revision
        )
        # After an error the record may exist, so the source is kept. The audit removes a source without a record.
        with span("record"):
            if cancelled is None:
                inserted = await self._records.insert(document)
            else:
                inserted = await self._records.restart(cancelled, document)
        if not inserted:  # A concurrent upload of the same file was first.
            winner = await self._records.get(id_)
            if winner is None:
                raise Conflict(f"{upload.filename!r} was deleted from {collection!r} while it was being uploaded")
            return await self._accept_again(winner, upload, options)
        await self._require_active_still(document)
        log.info("received", document_id=id_, collection=collection, pages=document.pages, size_bytes=size_bytes)
        await self._report_queued(document)
        return document

    async def _accept_again(self, known: Document, upload: Upload, options: UploadOptions) -> Document:
        if known.state is DocumentState.CANCELLING:
            raise Conflict(f"{known.filename!r} is being cancelled in {known.collection!r}; upload it again later")
        if known.state in (DocumentState.DELETING, DocumentState.DELETED) or known.replaced_by:
            raise Conflict(f"{known.filename!r} is being deleted from {known.collection!r}; upload it again later")
        if known.key:  # of the versions of a key, the one that was accepted last wins
            await self._records.renew_revision(known, await self._records.reserve_page_keys(1))
        if options.metadata or options.tags:
            known = await patch_document(self._records, known.id, options.metadata, options.tags or None)
        if known.state is not DocumentState.FAILED:
            return known
        # The stored source may be the cause of the failure, so it is written again.
        await retrying(
            self._blobs.put_file, known.object_key, upload.path, content_type_of(media_type_of(known.media_type))
        )
        if await self._records.requeue(known.id):
            log.info("requeued", document_id=known.id, was=known.error.code if known.error else "")
            await self._report_queued(known)
        return await self._records.get(known.id) or known

    async def _publish(self, document: Document) -> Document:
        """Publish the job. If that fails, the outbox stays pending and the janitor publishes the job later.

        After a timeout of the broker no file is published for a while, also no other file of the same upload.
        """
        if self._broker.is_cooling_down:
            log.info("publish postponed", document_id=document.id, cause="the broker did not answer lately")
            return document
        try:
            with self._broker.request(), budget(_PUBLISH_S):
                await self._queue.publish(IngestJob.of(document))
            with budget(self._store_budget_s):
                await self._records.mark_queued(document)
        except RetryableError as error:
            log.warning("publish postponed", document_id=document.id, cause=str(error))
            return document
        state = DocumentState.QUEUED if document.state is DocumentState.RECEIVED else document.state
        return replace(document, state=state, outbox="sent")

    async def _report_queued(self, document: Document) -> None:
        """Report progress. Call it before the job is published, so that it never overwrites a worker's report."""
        await self._progress.report(
            document.id, status="queued", message="waiting for a worker", processed=0, total=document.pages
        )

    async def _require_active_still(self, document: Document) -> None:
        """Delete the document again and raise CollectionArchived if the collection has been closed meanwhile.

        Archiving closes the collection and then reads its documents. An upload records the document and then reads the
        collection. So at least one of the two sees the other.
        """
        try:
            await self._records.require_active(document.collection)
        except CollectionArchived:
            await self._records.begin_delete(document.id)
            await self._records.remove(document)
            await self._discard_unrecorded(document.id)
            raise

    async def _discard_unrecorded(self, id_: str) -> None:
        """Delete the source unless a record or an archive needs it, or the records cannot be read."""
        try:
            if await self._records.get(id_) is None and not await self._records.archived_ids([id_]):
                await self._blobs.delete_prefix(document_prefix(id_))
        except RetryableError as error:
            log.warning("source left behind", document_id=id_, cause=str(error))


def _new_document(
    collection: str, id_: str, upload: Upload, options: UploadOptions, media_type: MediaType
) -> Document:
    """Without what the stores give: its page keys, its fence and its revision."""
    origin = current_origin()
    return Document(
        id=id_,
        collection=collection,
        filename=upload.filename,
        object_key=source_key(id_, media_type.extension),
        sha256=upload.sha256,
        size_bytes=upload.size_bytes,
        pages=0,
        first_page_key=0,
        media_type=media_type.value,
        request_id=origin.request_id,
        traceparent=origin.traceparent,
        metadata=options.metadata,
        tags=options.tags,
        key=options.key,
        priority=options.priority,
    )
