"""Makes the terms of ready documents that lack them, from the texts of their page records.

A search for words does not find such a document until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion import metrics
from ingestion.errors import NotFound
from ingestion.model import TERM_FORMAT, Document, DocumentState
from ingestion.ports import BlobStore, PageRecords, TermRecords
from ingestion.retrying import retrying
from workers.attempt.term_writer import term_objects, write_object
from workers.backfill import PAGES_A_ROUND, Backfill, BackfilledRecords


class TermedRecords(BackfilledRecords, PageRecords, TermRecords, Protocol):
    """What the backfill reads and records."""


class TermBackfill(Backfill):
    """A document that lacks a page record stays without terms."""

    what = "terms"
    _made = metrics.TERMS_MADE
    _left = metrics.DOCUMENTS_WITHOUT_TERMS

    def __init__(self, records: TermedRecords, blobs: BlobStore, pages_a_round: int = PAGES_A_ROUND) -> None:
        super().__init__(records, pages_a_round)
        self._records = records
        self._blobs = blobs

    async def _lacking(self, limit: int, after: str, collection: str | None) -> Sequence[Document]:
        return await self._records.without_terms(limit, after=after, collection=collection)

    async def _count_lacking(self, limit: int, collection: str | None) -> int:
        return await self._records.count_without_terms(limit, collection=collection)

    async def _make(self, document: Document) -> bool:
        written: list[str] = []
        try:
            async for key, content in term_objects(self._records, document):
                if not await self._is_as_it_was(document):
                    break
                written.append(key)
                await write_object(self._blobs, key, content)
            else:
                if await retrying(self._records.set_terms_format, document, TERM_FORMAT):
                    return True
        except NotFound:
            if await self._is_as_it_was(document):
                raise
        await self._delete_late_writes(document, written)
        return False

    async def _delete_late_writes(self, document: Document, written: list[str]) -> None:
        """Delete what may have been written after a delete.

        Where the same file has been uploaded anew, its terms have the same keys and the same content: they stay.
        """
        current = await retrying(self._records.get, document.id)
        is_gone = current is None and not await self._is_archived(document)
        if written and (is_gone or (current is not None and current.state is DocumentState.DELETING)):
            await retrying(self._blobs.delete, written)
