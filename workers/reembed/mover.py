"""Moves pages of many documents into another generation: read -> embed -> store, checkpoint.

It uses the stored texts and pictures, so a picture in WebP or JPEG is a little worse than a new rendering. Pages move
in windows. A window may have pages of several documents. Each stage runs one window ahead of the next, so no stage
holds more than a few windows, also in a large collection.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol, TypeAlias

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image

from ingestion.catalogue.generations import index_of
from ingestion.concurrency.tasks import gather_or_cancel, map_ordered, prefetch
from ingestion.errors import Conflict, NotFound, WorkerFault
from ingestion.model import SIGN_CODE_FORMAT, Document, DocumentState, Page, PageRecord, PageVectors
from ingestion.ports import (
    BlobStore,
    DocumentReader,
    Embedder,
    PageRecords,
    ReembeddingRecords,
    SignCodeRecords,
    VectorStore,
)
from ingestion.retrying import retrying
from workers.attempt.code_writer import CodeWriter
from workers.attempt.store import PageStore

log = structlog.get_logger(__name__)

PageRefs: TypeAlias = list[tuple[Document, int]]
"""Pages by document and number, in order."""
Read: TypeAlias = list[tuple[Document, Page]]
Embedded: TypeAlias = list[tuple[Document, PageVectors]]


class MoverRecords(DocumentReader, PageRecords, ReembeddingRecords, SignCodeRecords, Protocol):
    """The records that moving pages reads and writes."""


@dataclass(frozen=True, slots=True)
class Mover:
    """`window_pages` are read, embedded and stored together."""

    records: MoverRecords
    blobs: BlobStore
    vectors: VectorStore
    store: PageStore
    embedder: Embedder
    window_pages: int
    windows_in_embedder: int = 3

    async def move(self, pending: AsyncIterator[Document], generation: int, on_pages: Callable[[int], None]) -> int:
        """Write the pages of each document from its checkpoint on to `generation`. Return the number of documents.

        Removes the vectors of a document that is deleted meanwhile. Raises the errors of the stores and the embedder,
        and WorkerFault where a page lacks its record or its picture.
        """
        moved: set[str] = set()
        codes: dict[str, CodeWriter] = {}
        """The document whose pages are being stored."""
        async with (
            prefetch(self._read(_windows(pending, generation, self.window_pages))) as read,
            prefetch(self._embedded(read)) as embedded,
        ):
            async for window in embedded:
                for document, pages in groupby(window, key=lambda entry: entry[0]):
                    if document.id not in codes:
                        done = _pages_done(document, generation)
                        codes = {document.id: self.store.code_writer(document, generation, done)}
                    await self._store(document, generation, [page for _, page in pages], codes[document.id])
                    moved.add(document.id)
                on_pages(len(window))
        return len(moved)

    async def _read(self, windows: AsyncIterator[PageRefs]) -> AsyncGenerator[Read, None]:
        async for refs in windows:
            keys = [document.page_key(number) for document, number in refs]
            records = await retrying(self.records.pages_by_key, keys, with_text=True)
            pages = await gather_or_cancel(
                *(
                    self._page(document, number, records.get(key))
                    for (document, number), key in zip(refs, keys, strict=True)
                )
            )
            yield [(document, page) for (document, _), page in zip(refs, pages, strict=True) if page is not None]

    async def _page(self, document: Document, number: int, record: PageRecord | None) -> Page | None:
        """Return None where the document has been deleted."""
        if record is None or record.document_id != document.id:
            await self._require_gone(document, f"record of page {number}")
            return None
        page = Page(number, record.width_px, record.height_px, b"", record.text)
        if not self.embedder.wants_pixels:
            return page
        try:
            image = await retrying(self.blobs.get, record.image_key)
        except NotFound:
            await self._require_gone(document, f"picture of page {number}")
            return None
        return replace(page, image=image, pixels=await asyncio.to_thread(_pixels, image))

    async def _require_gone(self, document: Document, what: str) -> None:
        current = await retrying(self.records.get, document.id)
        is_there = current is not None and current.state is DocumentState.READY
        if current is not None and is_there and current.first_page_key == document.first_page_key:
            raise WorkerFault(
                f"the {what} of document {document.id} ({document.filename}) is missing: "
                "delete the document and upload it again"
            )

    async def _embedded(self, windows: AsyncIterator[Read]) -> AsyncGenerator[Embedded, None]:
        async def embed(window: Read) -> Embedded:
            vectors = await retrying(self.embedder.embed_pages, [page for _, page in window]) if window else []
            return [
                # Pages that wait for the store need no images.
                (
                    document,
                    PageVectors(replace(page, image=b"", pixels=None), document.page_key(page.page_number), found),
                )
                for (document, page), found in zip(window, vectors, strict=True)
            ]

        async with aclosing(map_ordered(embed, windows, width=self.windows_in_embedder)) as ordered:
            async for window in ordered:
                yield window

    async def _store(self, document: Document, generation: int, pages: list[PageVectors], codes: CodeWriter) -> None:
        await self.store.write_vectors(document, generation, pages, codes)
        done = pages[-1].page.page_number
        codes_format = await codes.complete() if done == document.pages else document.codes_format
        try:
            await retrying(self.records.advance, document, generation, done)
        except Conflict:
            # The delete may have removed the rows before these were written.
            log.info("deleted meanwhile", document_id=document.id, collection=document.collection)
            await self.remove_vectors(document, generation)
            return
        if done == document.pages:
            await self._note_lacking_codes(document, codes_format)
            log.info("re-embedded", document_id=document.id, generation=generation, pages=document.pages)

    async def _note_lacking_codes(self, document: Document, codes_format: int) -> None:
        """Where sign codes could not be made for the coming generation, the janitor makes those of both."""
        current = await retrying(self.records.get, document.id) if codes_format != SIGN_CODE_FORMAT else None
        if current is not None and current.codes_format == SIGN_CODE_FORMAT:
            await retrying(self.records.set_codes_format, current, 0)

    async def remove_vectors(self, document: Document, generation: int) -> None:
        """Remove the document's vectors of the coming generation."""
        index = index_of(document.collection, generation)
        await retrying(self.vectors.delete_pages, index, document.first_page_key, document.pages)
        await self.store.remove_blobs(document, generation)


async def _windows(pending: AsyncIterator[Document], generation: int, window_pages: int) -> AsyncIterator[PageRefs]:
    window: PageRefs = []
    async for document in pending:
        for number in range(_pages_done(document, generation) + 1, document.pages + 1):
            window.append((document, number))
            if len(window) == window_pages:
                yield window
                window = []
    if window:
        yield window


def _pages_done(document: Document, generation: int) -> int:
    return document.next_pages_done if document.next_generation == generation else 0


def _pixels(image: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) RGB."""
    with Image.open(io.BytesIO(image)) as picture:
        return np.asarray(picture.convert("RGB"))
