"""Remove a document, or a whole collection, from every store. Cut off in the middle, it may be repeated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import structlog

from ingestion.errors import NotFound, RetryableError
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

        Raises NotFound, and DependencyUnavailable with the document left as `deleting`.
        """
        # From here on the fence refuses what a worker still holds, and search no longer finds the document.
        document = await self.documents.begin_delete(document_id)
        await self.vectors.delete_pages(document.collection, document.first_page_key, document.pages)
        objects = await self.blobs.delete_prefix(document_prefix(document_id))
        await self.documents.remove(document_id)
        await self.progress.forget(document_id)
        log.info("deleted", document_id=document_id, collection=document.collection, objects=objects)
        await self._announce(replace(document, state=DocumentState.DELETED))

    async def delete_collection(self, collection: str) -> None:
        """Remove every document of the collection, then its index and what is known of its embedder.

        A collection without documents is no error. Raises BadRequest, DependencyUnavailable.
        """
        check_collection(collection)
        while batch := await self.documents.list(collection, limit=_BATCH):
            for document in batch:
                try:
                    await self.delete_document(document.id)
                except NotFound:  # Somebody else deleted it meanwhile.
                    continue
        await self.vectors.drop(collection)
        await self.documents.drop_collection(collection)
        log.info("collection deleted", collection=collection)

    async def _announce(self, document: Document) -> None:
        """Best effort: the stores are already clean, and a broker that is down must not fail the delete."""
        try:
            await self.queue.announce(document)
        except RetryableError as error:
            log.warning("deletion not announced", document_id=document.id, cause=str(error))
