"""Writes the sign codes of one document while its pages are written: one object for each segment of pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from ingestion.errors import NotFound
from ingestion.model import SIGN_CODE_FORMAT, Document, codes_key
from ingestion.ports import BlobStore
from ingestion.retrying import retrying
from ingestion.vectors.blob_reader import VectorBlobs
from ingestion.vectors.sign_codes import CodeSegment, segment_pages, segment_start, segment_starts
from ingestion.vectors.stored_codes import page_codes

log = structlog.get_logger(__name__)


class CodeWriter:
    """The sign codes that one attempt writes for a document in one generation.

    It keeps the codes of pages until all pages of their segment are stored: those of the windows in flight, of one or
    two segments. Pages up to `pages_done` were stored by an earlier attempt. Their codes are made from their blobs,
    where this attempt needs them. `on_write` is called after each acknowledged write.
    """

    def __init__(
        self, blobs: BlobStore, document: Document, generation: int, pages_done: int, on_write: Callable[[], None]
    ) -> None:
        self._blobs = blobs
        self._vector_blobs = VectorBlobs(blobs)
        self._document = document
        self._generation = generation
        self._pages_done = pages_done
        self._on_write = on_write
        starts = segment_starts(document.pages)
        self._done_before = [first for first in starts if self._pages(first)[-1] <= pages_done]
        self._not_stored = set(starts) - set(self._done_before)
        self._kept: dict[int, dict[int, CodeSegment]] = {}
        """The codes of pages by page number, by the first page of their segment."""
        self._has_failed = False

    async def add(self, codes: Mapping[int, CodeSegment]) -> None:
        """Take the codes of pages that are stored, by page number. Store each segment that is complete with them.

        Pages may come in any order, and again. Raises DependencyUnavailable.
        """
        for number, of_page in codes.items():
            self._kept.setdefault(segment_start(number), {})[number] = of_page
        starts = sorted({segment_start(number) for number in codes})
        complete = {first: self._kept.pop(first) for first in starts if self._is_complete(first)}
        for first, kept in complete.items():
            await self._store(first, kept)

    async def complete(self) -> int:
        """Store the segments that an attempt of an earlier release did not store. Call it after the last page.

        Returns SIGN_CODE_FORMAT where every segment is stored, and 0 where not: the vectors of an earlier page are
        missing or unreadable. Raises DependencyUnavailable.
        """
        for first in self._done_before:
            if not await retrying(self._blobs.list_keys, self._key(first)):
                await self._store(first, {})
        return 0 if self._not_stored or self._has_failed else SIGN_CODE_FORMAT

    def _is_complete(self, first: int) -> bool:
        """A segment that was stored before is complete: pages that come again replace a part of it."""
        if first not in self._not_stored:
            return True
        kept = self._kept.get(first, {})
        return all(number in kept for number in self._pages(first) if number > self._pages_done)

    async def _store(self, first: int, kept: dict[int, CodeSegment]) -> None:
        numbers = self._pages(first)
        lacking = [number for number in numbers if number not in kept]
        try:
            read = await page_codes(self._vector_blobs, self._document.id, lacking, self._generation)
            parts = kept | dict(zip(lacking, read, strict=True))
            content = await asyncio.to_thread(lambda: CodeSegment.joined([parts[n] for n in numbers]).encode())
        except (NotFound, ValueError) as error:
            self._has_failed = True
            log.warning(
                "sign codes not made",
                document_id=self._document.id,
                collection=self._document.collection,
                pages=f"{numbers[0]} to {numbers[-1]}",
                cause=str(error),
            )
            return
        await retrying(self._blobs.put, self._key(first), content, "application/octet-stream")
        self._not_stored.discard(first)
        self._on_write()

    def _pages(self, first: int) -> range:
        return segment_pages(first, self._document.pages)

    def _key(self, first: int) -> str:
        return codes_key(self._document.id, first, self._generation)
