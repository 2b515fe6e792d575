"""Makes the sign codes of ready documents that lack them.

Such documents were stored by an earlier release, or an audit found that their sign codes are not complete. The codes
are made from the stored vectors. A search ranks such a document without them until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from ingestion import metrics
from ingestion.errors import NotFound
from ingestion.model import SIGN_CODE_FORMAT, Document, DocumentState, codes_key
from ingestion.ports import Bindings, BlobStore, SignCodeRecords
from ingestion.retrying import retrying
from ingestion.vectors.blob_reader import VectorBlobs
from ingestion.vectors.sign_codes import CodeSegment, segment_pages, segment_starts
from ingestion.vectors.stored_codes import coded_generations, page_codes
from workers.attempt.term_writer import write_object
from workers.backfill import PAGES_A_ROUND, Backfill, BackfilledRecords

Written = list[tuple[int, str]]
"""The generation and the key of each object that was written."""


class CodedRecords(BackfilledRecords, Bindings, SignCodeRecords, Protocol):
    """What the backfill reads and records."""


class CodeBackfill(Backfill):
    """A document whose vectors are missing or unreadable stays without codes."""

    what = "sign codes"
    _made = metrics.CODES_MADE
    _left = metrics.DOCUMENTS_WITHOUT_CODES

    def __init__(self, records: CodedRecords, blobs: BlobStore, pages_a_round: int = PAGES_A_ROUND) -> None:
        super().__init__(records, pages_a_round)
        self._records = records
        self._blobs = blobs
        self._vector_blobs = VectorBlobs(blobs)

    async def _lacking(self, limit: int, after: str, collection: str | None) -> Sequence[Document]:
        return await self._records.without_codes(limit, after=after, collection=collection)

    async def _count_lacking(self, limit: int, collection: str | None) -> int:
        return await self._records.count_without_codes(limit, collection=collection)

    async def _make(self, document: Document) -> bool:
        written: Written = []
        try:
            await self._write(document, written)
        except (NotFound, ValueError):
            if await self._is_as_it_was(document):
                raise
        else:
            if await retrying(self._records.set_codes_format, document, SIGN_CODE_FORMAT):
                return True
        await self._delete_late_writes(document, written)
        return False

    async def _write(self, document: Document, written: Written) -> None:
        """Write all segments, one after another. Ends early where the document was deleted meanwhile."""
        binding = await retrying(self._records.binding, document.collection)
        for generation in coded_generations(document, binding):
            for first in segment_starts(document.pages):
                numbers = segment_pages(first, document.pages)
                codes = await page_codes(self._vector_blobs, document.id, numbers, generation)
                content = await asyncio.to_thread(lambda codes: CodeSegment.joined(codes).encode(), codes)
                if not await self._is_as_it_was(document):
                    return
                key = codes_key(document.id, first, generation)
                written.append((generation, key))
                await write_object(self._blobs, key, content)

    async def _delete_late_writes(self, document: Document, written: Written) -> None:
        """Delete what may have been written after a delete, or after the removal of a generation.

        Where the same file has been uploaded anew, its codes have the same keys. They may be overwritten with those
        of other vectors, and are deleted as well. A later round makes them again.
        """
        current = await retrying(self._records.get, document.id)
        if current is None:
            late = [] if await self._is_archived(document) else [key for _, key in written]
        elif current.state is DocumentState.DELETING or current.first_page_key != document.first_page_key:
            late = [key for _, key in written]
        else:
            late = [key for generation, key in written if not current.is_in(generation)]
        if not late:
            return
        await retrying(self._blobs.delete, late)
        if current is not None and current.codes_format == SIGN_CODE_FORMAT:
            await retrying(self._records.set_codes_format, current, 0)
