"""Writes a window of pages to the three stores. Every write is by a deterministic id: twice is the same as once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from ingestion.catalogue.generations import PageSize, index_of
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import EmbedderMismatch, EmbedderNotCurrent
from ingestion.model import Document, PageRecord, PageVectors, image_key, pages_prefix, vectors_key
from ingestion.ports import BlobStore, DocumentStore, Embedder, VectorStore
from ingestion.retrying import retrying
from ingestion.vector_encoding import VectorEncoding

_CONTENT_TYPES: Final = {"webp": "image/webp", "png": "image/png", "jpeg": "image/jpeg"}


class PageStore:
    """Puts pages where search finds them: pictures and vectors as objects, vectors as rows, and their records.

    The order is fixed: objects, then rows, then records. A row whose objects are missing would break a search; an
    object without a row is found by nobody. Nothing of it is visible until the document is `ready`.
    """

    def __init__(
        self,
        documents: DocumentStore,
        blobs: BlobStore,
        vectors: VectorStore,
        encoding: VectorEncoding | None = None,
    ) -> None:
        self._documents = documents
        self._blobs = blobs
        self._vectors = vectors
        self._encoding = encoding or VectorEncoding()
        self.writes = 0
        """Grows with each write of a page that a store has taken: a sign that storing gets on."""

    async def require_not_closed(self, collection: str, embedder: Embedder) -> None:
        """Raises EmbedderNotCurrent where a re-embedding keeps this embedder from filling the collection.

        Any other reason comes up when the document is being worked on.
        """
        bound = await self._documents.binding(collection)
        if bound is not None:
            with suppress(EmbedderMismatch):
                bound.require_current(embedder.fingerprint, embedder.dim)

    async def prepare(self, document: Document, embedder: Embedder, check: Callable[[], None] = lambda: None) -> int:
        """Make sure that the collection has an index for vectors of this embedder; the number of their generation.

        Raises EmbedderMismatch, and EmbedderNotCurrent where the collection is moving to another embedder.

        Rows and pictures that an earlier attempt wrote behind its last checkpoint are removed: it may have made more
        rows of a page than this one will, or a picture in another format, and what this one does not overwrite would
        stay. `check` raises where the document may have been given to another worker; it is asked before each removal.
        """
        bound = await self._documents.bind_collection(document.collection, embedder.fingerprint, embedder.dim)
        generation = bound.current.number
        index = index_of(document.collection, generation)
        await retrying(self._vectors.ensure, index, embedder.dim)
        pages_done = document.pages_done if generation == document.generation else 0
        if document.is_begun_anew and pages_done < document.pages:
            check()
            await retrying(
                self._vectors.delete_pages, index, document.page_key(pages_done + 1), document.pages - pages_done
            )
            numbers = range(pages_done + 1, document.pages + 1)
            pictures = [image_key(document.id, number, kind) for number in numbers for kind in _CONTENT_TYPES]
            check()
            await retrying(self._blobs.delete, pictures)
        return generation

    async def confirm_generation(self, document: Document, embedder: Embedder) -> None:
        """Asked once the document's record names the generation that it is written to, and before it is.

        Raises EmbedderNotCurrent where the collection has been closed, or has moved on, before the record said so: a
        re-embedding that closes it later finds the document by its record.
        """
        bound = await self._documents.bind_collection(document.collection, embedder.fingerprint, embedder.dim)
        if bound.current.number != document.generation:
            raise EmbedderNotCurrent(f"collection {document.collection} has moved on from {document.generation}")

    async def delete_late_vectors(self, document: Document) -> None:
        """The lease is lost: remove what was written to a generation that nobody will look at any more."""
        bound = await self._documents.binding(document.collection)
        if bound is not None and bound.current.number != document.generation:
            await self.remove_blobs(document, document.generation)

    async def remove_blobs(self, document: Document, generation: int) -> None:
        """Remove the vectors of a generation, where there are any."""
        numbers = range(1, document.pages + 1)
        keys = [vectors_key(document.id, number, generation) for number in numbers]
        await retrying(self._blobs.delete, keys)

    async def write(self, document: Document, window: Sequence[PageVectors]) -> None:
        """Store `window` completely or raise; what was written before an error is overwritten by the next attempt."""
        packed = await self._packed(window)
        await gather_or_cancel(
            self._put_rows(document, document.generation, packed),
            *(self._put_image(document, entry) for entry in window),
            *(self._put_blob(document, document.generation, entry) for entry in window),
        )
        records = [self._record(document, *pair) for pair in zip(window, packed, strict=True)]
        await retrying(self._documents.put_pages, records)

    async def write_vectors(self, document: Document, generation: int, window: Sequence[PageVectors]) -> None:
        """Store the vectors of pages whose pictures and records are there, in the same order, in a coming generation.

        Raises DependencyUnavailable, WorkerFault; doing it again is the same as once.
        """
        packed = await self._packed(window)
        await gather_or_cancel(
            self._put_rows(document, generation, packed),
            *(self._put_blob(document, generation, entry) for entry in window),
        )
        sizes = [
            PageSize(entry.page_key, len(entry.vectors), len(rows.vectors))
            for entry, rows in zip(window, packed, strict=True)
        ]
        await retrying(self._documents.put_page_sizes, generation, sizes)

    async def delete_late_writes(self, document: Document) -> None:
        """Take back what was written after `document` had been deleted under its worker's hands.

        Rows and page records are found by the range of page keys, which no other document ever gets. The objects'
        keys come from the id: they stay where the same file has been uploaded again.
        """
        index = index_of(document.collection, document.generation)
        await retrying(self._vectors.delete_pages, index, document.first_page_key, document.pages)
        await retrying(self._documents.remove_pages, document.first_page_key, document.pages)
        objects = await retrying(self._blobs.list_keys, pages_prefix(document.id))
        current = await retrying(self._documents.get, document.id)
        if current is None or current.first_page_key == document.first_page_key:
            await retrying(self._blobs.delete, objects)

    async def _put_image(self, document: Document, entry: PageVectors) -> None:
        number = entry.page.page_number
        key = image_key(document.id, number, entry.page.image_format)
        await retrying(self._blobs.put, key, entry.page.image, _CONTENT_TYPES[entry.page.image_format])
        self.writes += 1

    async def _put_blob(self, document: Document, generation: int, entry: PageVectors) -> None:
        key = vectors_key(document.id, entry.page.page_number, generation)
        await retrying(self._blobs.put, key, self._encoding.blob(entry.vectors), "application/octet-stream")
        self.writes += 1

    async def _packed(self, window: Sequence[PageVectors]) -> Sequence[PageVectors]:
        """The pages as the index gets them."""
        return await asyncio.to_thread(lambda: [self._encoding.rows(entry) for entry in window])

    async def _put_rows(self, document: Document, generation: int, packed: Sequence[PageVectors]) -> None:
        await retrying(self._vectors.upsert, index_of(document.collection, generation), packed)
        self.writes += 1

    def _record(self, document: Document, entry: PageVectors, packed: PageVectors) -> PageRecord:
        page = entry.page
        return PageRecord(
            page_key=entry.page_key,
            document_id=document.id,
            page_number=page.page_number,
            width_px=page.width_px,
            height_px=page.height_px,
            patches=len(entry.vectors),
            image_key=image_key(document.id, page.page_number, page.image_format),
            text=page.text,
            rows=len(packed.vectors),
        )
