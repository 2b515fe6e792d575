"""Remove a document, or a whole collection, from every store. An interrupted removal may be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from ingestion.catalogue.holds import Hold, held
from ingestion.catalogue.states import CollectionRecord, CollectionState, archives_of
from ingestion.concurrency.deadline import budget
from ingestion.errors import CollectionArchived, CollectionBusy, Conflict, NotFound, RetryableError
from ingestion.filters import Filter
from ingestion.model import Document, DocumentState, check_qualified, document_prefix
from ingestion.ports import (
    ArchivedDocuments,
    Bindings,
    BlobStore,
    CollectionCatalogue,
    Deletions,
    DocumentReader,
    Holds,
    JobQueue,
    Progress,
    VectorStore,
)

log = structlog.get_logger(__name__)

_BATCH: Final = 100
_OBJECTS_AT_ONCE: Final = 1_000
"""The number of keys that the object store deletes in one request."""
_LEAST_PAGES_PER_S: Final = 100
"""The budget of a document grows by one second for each of this many pages."""


class RemovalRecords(DocumentReader, Deletions, CollectionCatalogue, Holds, Bindings, ArchivedDocuments, Protocol):
    """The ports that a removal uses."""


@dataclass(frozen=True, slots=True)
class Remover:
    """Deletes documents and collections.

    `budget_s` limits the time of the stores for one document, or for one other step of deleting a collection. None
    leaves only the stores' own limits. When a budget ends, DependencyUnavailable is raised. The janitor, or a repeated
    call, finishes the deletion.
    """

    records: RemovalRecords
    vectors: VectorStore
    blobs: BlobStore
    queue: JobQueue
    progress: Progress
    budget_s: float | None = None

    async def delete_document(self, document_id: str) -> None:
        """Remove vectors, objects, pages and the record, in this order: a repeated call needs the record.

        Raises NotFound, CollectionArchived for a document in an archive, and Conflict for a document that was restored
        or uploaded again meanwhile. Raises DependencyUnavailable and leaves the document as `deleting`.
        """
        # From here on the fence refuses a worker that still holds the document, and search does not find it.
        with self._budget():
            document = await self._begin(document_id)
        await self.finish_delete(document)

    async def delete_replaced(self, document: Document) -> bool:
        """Remove a document that a newer version has replaced. False if another process has removed it.

        Raises as `delete_document`. The same file may have been uploaded again since: that upload stays.
        """
        try:
            with self._budget():
                begun = await self.records.begin_delete(document.id, first_page_key=document.first_page_key)
        except (NotFound, Conflict):
            return False
        return await self.finish_delete(begun)

    async def delete_matching(self, collection: str, where: Filter, limit: int) -> int:
        """Remove up to `limit` documents of the collection for which `where` holds. Returns their number.

        All of them begin to be deleted before the first one is removed. Raises as `delete_document`.
        """
        begun: list[Document] = []
        with self._budget():
            found = await self.records.list(collection, limit=limit, where=where)
        for document in found:
            try:
                with self._budget():
                    begun.append(await self.records.begin_delete(document.id, first_page_key=document.first_page_key))
            except (NotFound, Conflict):
                continue  # another process deleted it, or it was uploaded again
        for document in begun:
            await self.finish_delete(document)
        return len(found)

    async def finish_delete(self, document: Document) -> bool:
        """Continue a deletion that has begun. Return False if another process has finished it.

        The same file may have been uploaded again since. Raises DependencyUnavailable and leaves the document as
        `deleting`.
        """
        with self._budget(document.pages / _LEAST_PAGES_PER_S):
            return await self._delete_from_stores(document)

    async def _delete_from_stores(self, document: Document) -> bool:
        for index in await self._indexes(document.collection):
            await self.vectors.delete_pages(index, document.first_page_key, document.pages)
        # Object keys are made from the id: unlike page keys, the next upload of the file has the same ones.
        objects = await self.blobs.list_keys(document_prefix(document.id))
        for first in range(0, len(objects), _OBJECTS_AT_ONCE):
            if not await self._is_being_deleted(document):
                return False
            await self.blobs.delete(objects[first : first + _OBJECTS_AT_ONCE])
        if not await self._is_being_deleted(document):
            return False
        await self.records.remove(document)
        await self.progress.forget(document.id)
        log.info("deleted", document_id=document.id, collection=document.collection, objects=len(objects))
        await self._announce(replace(document, state=DocumentState.DELETED))
        return True

    async def delete_collection(self, collection: str) -> None:
        """Remove all documents of the collection, also archived ones, then its indexes, its archive and its record.

        A collection without documents is no error. Raises BadRequest, CollectionArchived, CollectionHeld,
        DependencyUnavailable.
        """
        check_qualified(collection)
        if not await self._has_record(collection):
            deleted = await self._delete_documents(collection)
            if not await self._has_record(collection):
                if not deleted:  # otherwise a new document may be about to get an index
                    with self._budget():
                        await self.vectors.drop(collection)
                return
        await self._drop(collection)

    async def finish_drop(self, seen: CollectionRecord) -> None:
        """Continue a removal that has begun. Raises as `held`, also if the collection has changed since `seen`."""
        await self._drop(seen.name, seen)

    async def drop_unused(self, seen: CollectionRecord) -> None:
        """As `delete_collection`. Raises CollectionBusy if it changed since `seen`, or has documents in progress."""
        await self._drop(seen.name, seen, only_idle=True)

    async def _drop(self, collection: str, seen: CollectionRecord | None = None, *, only_idle: bool = False) -> None:
        async with AsyncExitStack() as stack:
            with self._budget():
                hold = await stack.enter_async_context(held(self.records, collection, seen=seen))
                if only_idle:  # before a state is stored that another process would act on
                    await self._require_idle(hold)
                await hold.move(CollectionState.DROPPING, hold.record.archive)
                if only_idle:  # uploads are refused from here on
                    await self._require_idle(hold)
                await hold.thaw()
            await self._delete_documents(collection, hold)
            await self._delete_archived(hold)
            with self._budget():
                indexes = await self._indexes(collection)
            for index in indexes:
                with self._budget():
                    await hold.renew(long=True)
                    await self.vectors.drop(index)
            with self._budget():
                await self.records.forget_collection(collection, hold.token)
        log.info("collection deleted", collection=collection)

    def _budget(self, more_s: float = 0.0) -> AbstractContextManager[None]:
        return nullcontext() if self.budget_s is None else budget(self.budget_s + more_s)

    async def _has_record(self, collection: str) -> bool:
        with self._budget():
            return await self.records.collection(collection) is not None

    async def _require_idle(self, hold: Hold) -> None:
        await hold.freeze()
        busy = await self.records.unfrozen(hold.name, 1)
        await hold.thaw()
        if busy:
            await hold.move(hold.record.state, hold.record.archive)
            raise CollectionBusy(f"document {busy[0].id} of collection {hold.name!r} is in progress")

    async def _delete_documents(self, collection: str, hold: Hold | None = None) -> int:
        deleted = 0
        while batch := await self._listed(collection):
            for document in batch:
                if hold is not None:
                    with self._budget():
                        await hold.renew()
                try:
                    await self.delete_document(document.id)
                except CollectionArchived:
                    if hold is None:
                        raise
                    with self._budget():
                        await hold.thaw()  # a process that was stopped for a while froze it late
                except (NotFound, Conflict):
                    continue  # another process deleted it; a document that was uploaded again is listed again
                deleted += 1
        return deleted

    async def _listed(self, collection: str) -> Sequence[Document]:
        with self._budget():
            return await self.records.list(collection, limit=_BATCH)

    async def _delete_archived(self, hold: Hold) -> None:
        """Delete the objects of documents that only the archive holds, and all archives, also unfinished ones."""
        while batch := await self._archived(hold.name):
            for document_id in batch:
                with self._budget():
                    await hold.renew()
                    await self.blobs.delete_prefix(document_prefix(document_id))
            with self._budget():
                await self.records.forget_archived_ids(batch)
        with self._budget():
            parts = await self.blobs.list_keys(archives_of(hold.name))
            await hold.renew()
            await self.blobs.delete(parts)

    async def _archived(self, collection: str) -> Sequence[str]:
        with self._budget():
            return await self.records.archived_in(collection, _BATCH)

    async def _indexes(self, collection: str) -> Sequence[str]:
        """Return the indexes. Call it after `_begin`: a re-embedding that begins later omits the document."""
        binding = await self.records.binding(collection)
        return [collection] if binding is None else binding.indexes

    async def _is_being_deleted(self, document: Document) -> bool:
        current = await self.records.get(document.id)
        return (
            current is not None
            and current.first_page_key == document.first_page_key
            and current.state is DocumentState.DELETING
        )

    async def _begin(self, document_id: str) -> Document:
        """Begin the deletion. Raises CollectionArchived for an archived document: a restore would bring it back."""
        try:
            return await self.records.begin_delete(document_id)
        except NotFound:
            if await self.records.archived_ids([document_id]):
                raise CollectionArchived(
                    f"document {document_id} is archived; restore its collection first, or drop it"
                ) from None
            raise

    async def _announce(self, document: Document) -> None:
        """Publish the deletion. Best effort: the stores are clean, so a broker's outage must not fail the delete."""
        try:
            await self.queue.announce(document)
        except RetryableError as error:
            log.warning("deletion not announced", document_id=document.id, cause=str(error))
