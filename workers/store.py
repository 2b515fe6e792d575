"""Writes a window of pages to the three stores. Every write is by a deterministic id: twice is the same as once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, ParamSpec, TypeVar

import stamina

from ingestion.concurrency import side_by_side
from ingestion.errors import RetryableError
from ingestion.model import Document, PageRecord, PageVectors, image_key, pages_prefix, vectors_key
from ingestion.ports import BlobStore, DocumentStore, Embedder, VectorStore
from ingestion.vectors import encode_blob

P = ParamSpec("P")
R = TypeVar("R")

_CONTENT_TYPES: Final = {"webp": "image/webp", "png": "image/png", "jpeg": "image/jpeg"}
_RETRY_ATTEMPTS: Final = 4
_RETRY_TIMEOUT_S: Final = 20.0


class PageStore:
    """Puts pages where search finds them: pictures and vectors as objects, vectors as rows, and their records.

    The order is fixed: objects, then rows, then records. A row whose objects are missing would break a search; an
    object without a row is found by nobody. Nothing of it is visible until the document is `ready`.
    """

    def __init__(self, documents: DocumentStore, blobs: BlobStore, vectors: VectorStore, image_format: str) -> None:
        self._documents = documents
        self._blobs = blobs
        self._vectors = vectors
        self._image_format = image_format

    async def prepare(self, document: Document, embedder: Embedder) -> None:
        """Make sure that the collection exists and holds vectors of this embedder. Raises EmbedderMismatch."""
        await self._documents.bind_collection(document.collection, embedder.fingerprint, embedder.dim)
        await retrying(self._vectors.ensure, document.collection, embedder.dim)

    async def write(self, document: Document, window: Sequence[PageVectors]) -> None:
        """Store `window` completely or raise; what was written before an error is overwritten by the next attempt."""
        await side_by_side(*(self._put_objects(document, entry) for entry in window))
        await retrying(self._vectors.upsert, document.collection, window)
        await retrying(self._documents.put_pages, [self._record(document, entry) for entry in window])

    async def sweep(self, document: Document, *, objects: bool) -> None:
        """Take back what was written after `document` had been deleted under its worker's hands.

        Rows and page records are found by the range of page keys, which no other document ever gets. The objects'
        keys come from the id, so they stay (`objects` false) where the same file has been uploaded again.
        """
        await retrying(self._vectors.delete_pages, document.collection, document.first_page_key, document.pages)
        await retrying(self._documents.remove_pages, document.first_page_key, document.pages)
        if objects:
            await retrying(self._blobs.delete_prefix, pages_prefix(document.id))

    async def _put_objects(self, document: Document, entry: PageVectors) -> None:
        number = entry.page.page_number
        key = image_key(document.id, number, self._image_format)
        await retrying(self._blobs.put, key, entry.page.image, _CONTENT_TYPES[self._image_format])
        blob = encode_blob(entry.vectors)
        await retrying(self._blobs.put, vectors_key(document.id, number), blob, "application/octet-stream")

    def _record(self, document: Document, entry: PageVectors) -> PageRecord:
        page = entry.page
        return PageRecord(
            page_key=entry.page_key,
            document_id=document.id,
            page_number=page.page_number,
            width_px=page.width_px,
            height_px=page.height_px,
            patches=len(entry.vectors),
            image_key=image_key(document.id, page.page_number, self._image_format),
            text=page.text,
        )


async def retrying(call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """`await call(...)`, again after a RetryableError, with jitter, for some seconds; then the error is raised."""
    async for attempt in stamina.retry_context(
        on=RetryableError, attempts=_RETRY_ATTEMPTS, timeout=_RETRY_TIMEOUT_S, wait_initial=0.2, wait_max=5.0
    ):
        with attempt:
            return await call(*args, **kwargs)
    raise AssertionError("stamina ended without a result or an error")
