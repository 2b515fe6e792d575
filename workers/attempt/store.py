"""Writes a window of pages to the three stores. All ids are deterministic: writing twice is the same as once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from ingestion.catalogue.generations import PageSize, index_of
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import EmbedderMismatch, EmbedderNotCurrent, NotFound
from ingestion.model import (
    TERM_FORMAT,
    Document,
    PageRecord,
    PageVectors,
    both_vectors_keys,
    codes_key,
    codes_keys,
    converted_key,
    image_key,
    old_vectors_key,
    pages_prefix,
    vectors_key,
)
from ingestion.ports import Bindings, BlobStore, DocumentReader, Embedder, PageRecords, VectorStore
from ingestion.retrying import retrying
from ingestion.vectors.encoding import VectorEncoding
from ingestion.vectors.sign_codes import CodeSegment, segment_pages, segment_starts
from workers.attempt.code_writer import CodeWriter
from workers.attempt.term_writer import term_objects, write_object

log = structlog.get_logger(__name__)

_CONTENT_TYPES: Final = {"webp": "image/webp", "png": "image/png", "jpeg": "image/jpeg"}


class StoreRecords(DocumentReader, PageRecords, Bindings, Protocol):
    """The records of pages, and what decides where their vectors go."""


@dataclass(frozen=True, slots=True)
class _EncodedPage:
    """A page with what is stored of its vectors."""

    page: PageVectors
    rows: PageVectors
    """The page with the vectors that the index gets."""
    blob: bytes
    codes: CodeSegment


class PageStore:
    """Writes pages: images, vectors and sign codes as objects, vectors as rows of the index, and page records.

    Objects and rows are written side by side, then the records, then sign codes, and terms last. No search shows any
    of them until the document is `ready`.
    """

    def __init__(
        self,
        records: StoreRecords,
        blobs: BlobStore,
        vectors: VectorStore,
        encoding: VectorEncoding | None = None,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._vectors = vectors
        self._encoding = encoding or VectorEncoding()
        self._not_current: set[str] = set()
        """Collections that `prepare` last found not to be current for its embedder."""
        self.writes = 0
        """Grows with each acknowledged write: the sign of progress of the stage `store`."""

    async def require_current(self, collection: str, embedder: Embedder) -> None:
        """Raises EmbedderNotCurrent where `prepare` did for this collection before, and would again.

        So only one document of a collection is claimed and released again while a re-embedding keeps this embedder
        from filling it. For all other collections this makes no request.
        """
        if collection not in self._not_current:
            return
        bound = await self._records.binding(collection)
        if bound is not None:
            with suppress(EmbedderMismatch):
                bound.require_current(embedder.fingerprint, embedder.dim)
        self._not_current.discard(collection)

    async def prepare(self, document: Document, embedder: Embedder, check: Callable[[], None] = lambda: None) -> int:
        """Create the collection's index where it is missing. Returns the generation that this embedder writes to.

        Raises EmbedderMismatch, and EmbedderNotCurrent where the collection is moving to another embedder. Call it
        after the claim: a re-embedding that closes the collection later revokes all claims, so no document becomes
        ready in a generation that has been replaced.

        Deletes rows, images and sign codes that an earlier attempt wrote after its last checkpoint. That attempt may
        have written more rows for a page, an image in another format, or vectors under their old name
        (`old_vectors_key`), and this attempt would not overwrite those. `check` is called before each deletion; it
        raises where another worker may have the document.
        """
        try:
            bound = await self._records.bind_collection(document.collection, embedder.fingerprint, embedder.dim)
        except EmbedderNotCurrent:
            self._not_current.add(document.collection)
            raise
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
            stale = [image_key(document.id, number, kind) for number in numbers for kind in _CONTENT_TYPES]
            stale += [old_vectors_key(document.id, number, generation) for number in numbers]
            stale += [
                codes_key(document.id, first, generation)
                for first in segment_starts(document.pages)
                if segment_pages(first, document.pages)[-1] > pages_done
            ]
            check()
            await retrying(self._blobs.delete, stale)
        return generation

    async def delete_late_vectors(self, document: Document) -> None:
        """After a lost lease: delete the document's vectors, where their generation is no longer the current one."""
        bound = await self._records.binding(document.collection)
        if bound is not None and bound.current.number != document.generation:
            await self.remove_blobs(document, document.generation)

    async def remove_blobs(self, document: Document, generation: int) -> None:
        """Delete the vectors and the sign codes that the document has in a generation."""
        numbers = range(1, document.pages + 1)
        keys = [key for number in numbers for key in both_vectors_keys(document.id, number, generation)]
        keys += codes_keys(document.id, document.pages, generation)
        await retrying(self._blobs.delete, keys)

    def code_writer(self, document: Document, generation: int, pages_done: int) -> CodeWriter:
        """For `write` or `write_vectors` of each window of an attempt that resumes after `pages_done` pages."""
        return CodeWriter(self._blobs, document, generation, pages_done, self._add_write)

    async def write(self, document: Document, window: Sequence[PageVectors], codes: CodeWriter) -> None:
        """Write all of `window`, or raise. The next attempt overwrites what was written before an error."""
        encoded = await self._encoded(window)
        await gather_or_cancel(
            self._put_rows(document, document.generation, encoded),
            *(self._put_image(document, entry) for entry in window),
            *(self._put_blob(document, document.generation, entry) for entry in encoded),
        )
        await retrying(self._records.put_pages, [self._record(document, entry) for entry in encoded])
        await codes.add({entry.page.page.page_number: entry.codes for entry in encoded})

    async def completed(
        self, document: Document, codes: CodeWriter, check: Callable[[], None] = lambda: None
    ) -> Document:
        """Store what is left of the sign codes, then the terms. Returns the document as `finish` records it.

        Call it after the last page. `check` is called before each write of terms. Raises what it raises,
        DependencyUnavailable. Twice is safe.
        """
        codes_format = await codes.complete()
        return replace(document, codes_format=codes_format, terms_format=await self._write_terms(document, check))

    async def _write_terms(self, document: Document, check: Callable[[], None]) -> int:
        """Returns 0 where a page has no record: a search for words does not find the document then."""
        try:
            async for key, content in term_objects(self._records, document):
                check()
                await write_object(self._blobs, key, content)
                self._add_write()
        except NotFound as error:
            log.warning("terms not made", document_id=document.id, cause=error.message)
            return 0
        return TERM_FORMAT

    async def write_vectors(
        self, document: Document, generation: int, window: Sequence[PageVectors], codes: CodeWriter
    ) -> None:
        """Write the vectors of pages to a coming generation. Their images and records are stored already.

        Raises DependencyUnavailable, WorkerFault. Safe to repeat.
        """
        encoded = await self._encoded(window)
        await gather_or_cancel(
            self._put_rows(document, generation, encoded),
            *(self._put_blob(document, generation, entry) for entry in encoded),
        )
        sizes = [PageSize(entry.page.page_key, len(entry.page.vectors), len(entry.rows.vectors)) for entry in encoded]
        await retrying(self._records.put_page_sizes, generation, sizes)
        await codes.add({entry.page.page.page_number: entry.codes for entry in encoded})

    async def delete_late_writes(self, document: Document) -> None:
        """Delete what was written after `document` had been deleted or cancelled while its worker processed it.

        Rows and page records are found by the document's page keys, which no other document ever gets. The keys of
        objects contain the document's id, so the objects stay where the same file has been uploaded again.
        """
        index = index_of(document.collection, document.generation)
        await retrying(self._vectors.delete_pages, index, document.first_page_key, document.pages)
        await retrying(self._records.remove_pages, document.first_page_key, document.pages)
        objects = await retrying(self._blobs.list_keys, pages_prefix(document.id))
        if document.is_converted:
            objects.append(converted_key(document.id))
        current = await retrying(self._records.get, document.id)
        if current is None or current.first_page_key == document.first_page_key:
            await retrying(self._blobs.delete, objects)

    async def _put_image(self, document: Document, entry: PageVectors) -> None:
        number = entry.page.page_number
        key = image_key(document.id, number, entry.page.image_format)
        await retrying(self._blobs.put, key, entry.page.image, _CONTENT_TYPES[entry.page.image_format])
        self._add_write()

    async def _put_blob(self, document: Document, generation: int, entry: _EncodedPage) -> None:
        key = vectors_key(document.id, entry.page.page.page_number, generation)
        await retrying(self._blobs.put, key, entry.blob, "application/octet-stream")
        self._add_write()

    async def _encoded(self, window: Sequence[PageVectors]) -> Sequence[_EncodedPage]:
        """In a thread: it takes milliseconds of CPU a page."""

        def encode(entry: PageVectors) -> _EncodedPage:
            blob = self._encoding.blob(entry.vectors)
            return _EncodedPage(entry, self._encoding.rows(entry), blob, CodeSegment.of([blob]))

        return await asyncio.to_thread(lambda: [encode(entry) for entry in window])

    async def _put_rows(self, document: Document, generation: int, encoded: Sequence[_EncodedPage]) -> None:
        index = index_of(document.collection, generation)
        await retrying(self._vectors.upsert, index, [entry.rows for entry in encoded])
        self._add_write()

    def _add_write(self) -> None:
        self.writes += 1

    def _record(self, document: Document, entry: _EncodedPage) -> PageRecord:
        page = entry.page.page
        return PageRecord(
            page_key=entry.page.page_key,
            document_id=document.id,
            page_number=page.page_number,
            width_px=page.width_px,
            height_px=page.height_px,
            patches=len(entry.page.vectors),
            image_key=image_key(document.id, page.page_number, page.image_format),
            text=page.text,
            rows=len(entry.rows.vectors),
            text_source=page.source_of_text.value,
            words=page.words,
        )
