"""Page records that no document has, found by reading all of them in the order of their keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from ingestion.model import Document, PageRecord
from ingestion.ports import DocumentReader, PageRecords, RecordInventory
from workers.audit.mismatch import Mismatch, MismatchKind, Recheck

_PAGES_AT_ONCE: Final = 1000


class PageOwners(DocumentReader, PageRecords, RecordInventory, Protocol):
    """Page records and the documents that they name."""


@dataclass(frozen=True, slots=True)
class OrphanPagesAudit:
    """A page record is an orphan where its document is unknown or has other page keys."""

    records: PageOwners
    repair: bool

    async def suspects(self) -> AsyncIterator[Recheck]:
        last = 0
        while batch := await self.records.pages_after(last, _PAGES_AT_ONCE):
            last = batch[-1].page_key
            for id_, orphans in (await self._orphans(batch)).items():
                yield partial(self._recheck, id_, [page.page_key for page in orphans])

    async def _recheck(self, id_: str, page_keys: Sequence[int]) -> list[Mismatch]:
        pages = await self.records.pages_by_key(page_keys)
        orphans = (await self._orphans(list(pages.values()))).get(id_)
        if not orphans:
            return []
        if self.repair:
            for keys in _runs(page.page_key for page in orphans):
                await self.records.remove_pages(keys.start, len(keys))
        what = f"record of page {orphans[0].page_number}"
        return [Mismatch("mongodb", MismatchKind.ORPHAN, what, len(orphans), id_, is_repaired=self.repair)]

    async def _orphans(self, pages: Sequence[PageRecord]) -> dict[str, list[PageRecord]]:
        """Those of `pages` that are orphans, by the document they name, in the order of their keys."""
        known = await self.records.known({page.document_id for page in pages})
        orphans = defaultdict(list)
        for page in sorted(pages, key=lambda page: page.page_key):
            if not _has(known.get(page.document_id), page):
                orphans[page.document_id].append(page)
        return orphans


def _has(document: Document | None, page: PageRecord) -> bool:
    """Also where the document's record cannot be read: then nothing says which page keys it has."""
    return document is not None and (not document.is_readable or page.page_key in document.page_keys)


def _runs(keys: Iterable[int]) -> Iterator[range]:
    """Ascending `keys` as ranges without gaps."""
    run = range(0)
    for key in keys:
        if run and key == run.stop:
            run = range(run.start, key + 1)
            continue
        if run:
            yield run
        run = range(key, key + 1)
    if run:
        yield run
