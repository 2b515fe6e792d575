"""Records of pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ingestion.catalogue.generations import PageSize
from ingestion.model import PageRecord


class PageRecords(Protocol):
    async def put_pages(self, pages: Sequence[PageRecord]) -> None:
        """Insert or replace by page key."""

    async def pages_by_key(
        self, page_keys: Collection[int], *, with_text: bool = False, with_words: bool = False
    ) -> dict[int, PageRecord]:
        """The records that exist; `text` and `words` are empty unless asked for."""

    async def remove_pages(self, first_page_key: int, count: int) -> None:
        """Delete the records of `count` pages from `first_page_key` on. Missing ones are no error."""

    async def put_page_sizes(self, generation: int, sizes: Sequence[PageSize]) -> None:
        """Record page sizes in a coming generation. Pages without a record are skipped. Twice is safe."""
