"""The pages that a search of a collection may find."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestion.filters import Filter
from ingestion.model import Document, TextPages


@dataclass(frozen=True, slots=True)
class PageRange:
    """The pages of one ready document: `pages` page keys from `first_page_key` on.

    `has_codes`, `has_terms`: the sign codes, or the terms, of all pages are in the object store, in the format of this
    release.
    """

    document_id: str
    first_page_key: int
    pages: int
    has_codes: bool
    has_terms: bool


class ReadyPages(Protocol):
    """Documents that are `ready` and completely in a generation. Damaged records are left out.

    The same documents as `DocumentReader.ready_documents` returns, for a whole collection.
    """

    async def count_ready_pages(self, collection: str) -> int:
        """The number of pages of the collection's ready documents, in any generation. 0 where it is unknown."""

    async def count_text_pages(self, collection: str) -> TextPages:
        """The sum over the collection's ready documents. Documents of earlier releases are left out."""

    async def ready_page_ranges(
        self, collection: str, generation: int, where: Filter | None = None
    ) -> Sequence[PageRange]:
        """The page ranges of the collection's ready documents in that generation, by page key. Reads the primary.

        Of the ready versions of a key only the newest one: see `newest_versions`. `where`: only documents for which it
        holds.
        """

    async def filterable_documents(self, collection: str, *, after: int, limit: int) -> Sequence[Document]:
        """The collection's ready documents whose first page key is above `after`, by page key, replaced ones as well.

        They have the fields that filters read; other fields may have their defaults.
        """

    async def newest_of_keys(self, collection: str, keys: Collection[str]) -> Mapping[str, Document]:
        """The newest ready document of each key. Keys without a ready document are left out."""
