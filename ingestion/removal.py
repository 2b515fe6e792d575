"""Remove a document, or a whole collection, from every store. Cut off in the middle, it may be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ingestion.collection import CollectionState, archives_of
from ingestion.errors import CollectionArchived, CollectionBusy, NotFound, RetryableError
from ingestion.hold import Hold, held
from ingestion.model import Document, DocumentState, check_collection, document_prefix
from ingestion.ports import BlobStore, DocumentStore, JobQueue, Progress, VectorStore

log = structlog.get_logger(__name__)

_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Remover:
    documents: DocumentStore
    vectors: VectorStore
    blobs: BlobStore
    queue: JobQueue
    progress: Progress

    async def delete_document(self, document_id: str) -> None:
        """Remove vectors, objects, pages and the record, in this order; the record is what a repeat starts from.

        Raises NotFound, CollectionArchived for a document in an archive, and DependencyUnavailable with the document
        left as `deleting`.
        """
        # From here on the fence refuses what a worker still holds, and search no longer finds the document.
        document = await self._begin(document_id)
        await self.finish_delete(document)

    async def finish_delete(self, document: Document) -> bool:
        """Go on with a deletion that has begun. False where somebody else finished it; the same file may be back then.

        Raises DependencyUnavailable with the document left as `deleting`.
        """
        for index in await self._indexes(document.collection):
            await self.vectors.delete_pages(index, document.first_page_key, document.pages)
        # Unlike page keys, the keys of objects come from the id, and are those of the next upload, too.
        current = await self.documents.get(document.id)
        if current is None or current.first_page_key != document.first_page_key:
            return False
        objects = await self.blobs.delete_prefix(document_prefix(document.id))
        await self.documents.remove(document.id)
        await self.progress.forget(document.id)
        log.info("deleted", document_id=document.id, collection=document.collection, objects=objects)
        await self._announce(replace(document, state=DocumentState.DELETED))
        return True

    async def delete_collection(self, collection: str, *, only_idle: bool = False) -> None:
        """Remove every document of the collection, archived ones too, then its indexes, its archive and its record.

        A collection without documents is no error. With `only_idle` one that has documents in progress is left as it
        is. Raises BadRequest, CollectionBusy for that one, CollectionHeld, DependencyUnavailable.
        """
        check_collection(collection)
        if await self.documents.collection(collection) is None:
            await self._delete_documents(collection)
            await self.vectors.drop(collection)
            return
        async with held(self.documents, collection) as hold:
            await hold.move(CollectionState.DROPPING, hold.record.archive)
            await hold.freeze()
            busy = await self.documents.unfrozen(collection, 1)
            await hold.thaw()
            if only_idle and busy:
                await hold.move(hold.record.state, hold.record.archive)
                raise CollectionBusy(f"document {busy[0].id} of collection {collection!r} is in progress")
            await self._delete_documents(collection, hold)
            await self._delete_archived(hold)
            for index in await self._indexes(collection):
                await hold.keep(long=True)
                await self.vectors.drop(index)
            await self.documents.forget_collection(collection, hold.token)
        log.info("collection deleted", collection=collection)

    async def _delete_documents(self, collection: str, hold: Hold | None = None) -> None:
        while batch := await self.documents.list(collection, limit=_BATCH):
            for document in batch:
                if hold is not None:
                    await hold.keep()
                try:
                    await self.delete_document(document.id)
                except (NotFound, CollectionArchived):  # Somebody else deleted it meanwhile.
                    continue

    async def _delete_archived(self, hold: Hold) -> None:
        """The objects of documents that have no record any more, and the archive, of unfinished attempts too."""
        while batch := await self.documents.archived_in(hold.name, _BATCH):
            for document_id in batch:
                await hold.keep()
                await self.blobs.delete_prefix(document_prefix(document_id))
            await self.documents.forget_archived_ids(batch)
        parts = await self.blobs.list_keys(archives_of(hold.name))
        await hold.keep()
        await self.blobs.delete(parts)

    async def _indexes(self, collection: str) -> Sequence[str]:
        """Asked for after documents have begun to be deleted: a re-embedding that begins later leaves those out."""
        binding = await self.documents.binding(collection)
        return [collection] if binding is None else binding.indexes

    async def _begin(self, document_id: str) -> Document:
        """Nobody should take a document for gone that comes back when its collection is restored."""
        try:
            return await self.documents.begin_delete(document_id)
        except NotFound:
            if await self.documents.archived_ids([document_id]):
                raise CollectionArchived(
                    f"document {document_id} is archived; restore its collection first, or drop it"
                ) from None
            raise

    async def _announce(self, document: Document) -> None:
        """Best effort: the stores are already clean, and a broker that is down must not fail the delete."""
        try:
            await self.queue.announce(document)
        except RetryableError as error:
            log.warning("deletion not announced", document_id=document.id, cause=str(error))
