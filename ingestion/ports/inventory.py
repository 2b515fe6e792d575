"""Inventories for audits: the whole content of a store, in an order that is the same in all stores.

Each method returns a part, so that an audit does not hold a whole store in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingestion.catalogue.generations import FIRST
from ingestion.model import Document, PageRecord


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """An object in a listing. `modified` is by the object store's clock."""

    key: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class PageTotals:
    """Totals of a document's page records. `rows`: the number that the vector store should hold."""

    pages: int
    rows: int


class RecordInventory(Protocol):
    async def next_page_key(self) -> int:
        """Return the lowest page key that was never reserved. 0 if the database is not prepared."""

    async def collections_of_documents(self) -> Sequence[str]:
        """Return the collections of all documents, also those without a bound embedder."""

    async def by_page_key(self, collection: str, *, after: int, limit: int) -> Sequence[Document]:
        """Documents of the collection whose first page key is above `after`, in the order of these keys."""

    async def pages_after(self, page_key: int, limit: int) -> Sequence[PageRecord]:
        """The page records with a key above `page_key`, in the order of the keys and without their texts."""

    async def page_totals(self, document_ids: Collection[str], generation: int = FIRST) -> dict[str, PageTotals]:
        """Return the totals of the documents that have page records. `rows` are those of `generation`."""


class BlobInventory(Protocol):
    def entries(self, prefix: str) -> AsyncIterator[BlobEntry]:
        """Yield the objects under `prefix` in the order of their keys, from one listing."""


class RowInventory(Protocol):
    async def count_rows_in(self, collection: str, page_keys: Sequence[range]) -> int:
        """Return the number of rows of all pages in these ranges, strongly consistent."""
