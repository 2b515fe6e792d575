"""The records of one ready document without sign codes, for tests of searches without servers."""

from __future__ import annotations

from collections.abc import Collection

from ingestion.model import Document, PageRecord
from ingestion.ports import PageRange
from tests.support.documents import page


class RecordsOfOne:
    """DocumentReader, PageRecords and ReadyPages, as far as searches use them."""

    def __init__(self, kept: Document) -> None:
        self.kept = kept

    async def pages_by_key(self, keys: Collection[int], *, with_text: bool = False) -> dict[int, PageRecord]:
        return {key: page(key, self.kept.id) for key in keys}

    async def ready_documents(self, ids: Collection[str]) -> dict[str, Document]:
        return {self.kept.id: self.kept}

    async def count_ready_pages(self, collection: str) -> int:
        return self.kept.pages

    async def ready_page_ranges(self, collection: str, generation: int, where: object = None) -> list[PageRange]:
        return [PageRange(self.kept.id, self.kept.first_page_key, self.kept.pages, has_codes=False, has_terms=False)]
