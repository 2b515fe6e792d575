"""Rows of the vector store, against the page records of ready documents and the gaps between all documents' keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from ingestion.catalogue.generations import FIRST, index_of
from ingestion.model import Document, DocumentState
from ingestion.ports import DocumentReader, RecordInventory, VectorStore
from workers.audit.mismatch import Mismatch, MismatchKind, Recheck

_DOCUMENTS_AT_ONCE: Final = 32
"""Each is a term of a filter, whose length bounds it."""
_ROWS_AT_ONCE: Final = 100_000
"""In one request. Milvus Lite makes an object of each row that it counts, and answers no other request meanwhile.
It looks at all other rows too, so small requests take longer together: 430,000 rows took 104 s with 25,000 at once,
and 77 s with these."""
_DELETE_PAGES: Final = 256
_PAGES_AT_ONCE: Final = 1000


class RowRecords(DocumentReader, RecordInventory, Protocol):
    """The records that say how many rows there should be."""


@dataclass(frozen=True, slots=True)
class RowsAudit:
    """One generation of a collection: counts the rows of many documents at once, and closer and closer where the sum
    is not what it should be.

    Page keys from `end` on are not judged: they may belong to documents that have been uploaded since.
    """

    records: RowRecords
    vectors: VectorStore
    end: int
    repair: bool
    collection: str
    generation: int = FIRST

    @property
    def index(self) -> str:
        return index_of(self.collection, self.generation)

    async def suspects(self) -> AsyncIterator[Recheck]:
        low = 0
        while block := await self.records.by_page_key(self.collection, after=low - 1, limit=_DOCUMENTS_AT_ONCE):
            for gap in await self._unequal([(gap, 0) for gap in self._gaps(low, block)]):
                yield partial(self._recheck_gap, gap)
            rows = await self._rows_of(block)
            ids = {document.page_keys: document.id for document in block if document.id in rows}
            for keys in await self._unequal([(keys, rows[id_]) for keys, id_ in ids.items()]):
                yield partial(self._recheck_document, ids[keys])
            low = block[-1].page_keys.stop
        if low < self.end:
            for gap in await self._unequal([(range(low, self.end), 0)]):
                yield partial(self._recheck_gap, gap)

    def _gaps(self, low: int, block: Sequence[Document]) -> Iterator[range]:
        """The keys from `low` on that are between the documents of `block`."""
        for document in block:
            if gap := range(low, min(document.first_page_key, self.end)):
                yield gap
            low = document.page_keys.stop

    async def _rows_of(self, block: Sequence[Document]) -> dict[str, int]:
        """Return the number of rows that each ready document of this generation must have.

        One whose page records are not complete is not judged.
        """
        ready = {
            document.id: document
            for document in block
            if document.state is DocumentState.READY and document.is_readable and document.is_in(self.generation)
        }
        totals = await self.records.page_totals(ready, self.generation)
        return {id_: total.rows for id_, total in totals.items() if total.pages == ready[id_].pages}

    async def _unequal(self, expected: Sequence[tuple[range, int]]) -> list[range]:
        """Those ranges of page keys that do not have the rows they should have."""
        if not expected:
            return []
        if await self._count(expected) == sum(rows for _, rows in expected):
            return []
        if len(expected) == 1:
            return [expected[0][0]]
        half = len(expected) // 2
        return [
            *await self._unequal(expected[:half]),
            *await self._unequal(expected[half:]),
        ]

    async def _count(self, expected: Sequence[tuple[range, int]]) -> int:
        return sum([await self.vectors.count_rows_in(self.index, keys) for keys in portions(expected)])

    async def _recheck_document(self, id_: str) -> list[Mismatch]:
        """The record is read before and after: as long as it stays the same, nothing of the document is in motion."""
        document = await self.records.get(id_)
        expected = await self._rows_of([document] if document else [])
        if document is None or id_ not in expected:
            return []
        found = await self._count([(document.page_keys, expected[id_])])
        lacking = expected[id_] - found
        if not lacking or await self.records.get(id_) != document:
            return []
        kind = MismatchKind.MISSING if lacking > 0 else MismatchKind.EXTRA
        what = f"{found} rows in place of {expected[id_]}"
        return [Mismatch("milvus", kind, what, abs(lacking), id_, document.collection)]

    async def _recheck_gap(self, gap: range) -> list[Mismatch]:
        count = await self.vectors.count_rows(self.index, gap.start, len(gap))
        newer = await self.records.by_page_key(self.collection, after=gap.start - 1, limit=1)
        if not count or (newer and newer[0].first_page_key in gap) or await self._is_of_unreadable(gap):
            return []
        if self.repair:
            await self._delete(gap)
        what = f"rows of page keys {gap.start} to {gap.stop - 1}"
        return [
            Mismatch("milvus", MismatchKind.ORPHAN, what, count, collection=self.collection, is_repaired=self.repair)
        ]

    async def _is_of_unreadable(self, gap: range) -> bool:
        """Whether page records in the gap are of a document whose own record, and so its page keys, cannot be read."""
        after = gap.start - 1
        while pages := await self.records.pages_after(after, _PAGES_AT_ONCE):
            pages = [page for page in pages if page.page_key in gap]
            known = await self.records.known({page.document_id for page in pages})
            if not all(document.is_readable for document in known.values()):
                return True
            if not pages:
                return False
            after = pages[-1].page_key
        return False

    async def _delete(self, gap: range) -> None:
        """In a gap that may be millions of keys wide, look for the parts that have rows, and delete those."""
        if not await self.vectors.count_rows(self.index, gap.start, len(gap)):
            return
        if len(gap) <= _DELETE_PAGES:
            await self.vectors.delete_pages(self.index, gap.start, len(gap))
            return
        half = len(gap) // 2
        await self._delete(gap[:half])
        await self._delete(gap[half:])


def portions(expected: Sequence[tuple[range, int]]) -> Iterator[list[range]]:
    """The ranges of page keys in parts that should have up to _ROWS_AT_ONCE rows each, as far as pages are alike."""
    portion, rows = list[range](), 0
    for keys, count in expected:
        step = max(1, len(keys) * _ROWS_AT_ONCE // count) if count else len(keys)
        for start in range(keys.start, keys.stop, step):
            part = range(start, min(start + step, keys.stop))
            part_rows = count * len(part) // len(keys)
            if portion and rows + part_rows > _ROWS_AT_ONCE:
                yield portion
                portion, rows = [], 0
            portion.append(part)
            rows += part_rows
    if portion:
        yield portion
