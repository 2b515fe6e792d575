"""What an audit reads: everything that a store holds, in an order in which stores can be compared.

Each method reads a part, so that no audit holds a whole store in memory.
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
    """An object as a listing names it. `modified` is by the object store's clock."""

    key: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class PageTotals:
    """What the page records of one document come to. `rows` are those that the vector store should hold."""

    pages: int
    rows: int


class RecordInventory(Protocol):
    async def next_page_key(self) -> int:
        """No document holds this page key yet, nor any above it. 0 where the database has not been prepared."""

    async def collections_of_documents(self) -> Sequence[str]:
        """The collections that any document names, whether an embedder is bound to them or not."""

    async def by_page_key(self, collection: str, *, after: int, limit: int) -> Sequence[Document]:
        """Documents of the collection whose first page key is above `after`, in the order of these keys."""

    async def pages_after(self, page_key: int, limit: int) -> Sequence[PageRecord]:
        """The page records with a key above `page_key`, in the order of the keys and without their texts."""

    async def page_totals(self, document_ids: Collection[str], generation: int = FIRST) -> dict[str, PageTotals]:
        """The totals of those of `document_ids` that have page records, the rows being those of `generation`."""


class BlobInventory(Protocol):
    def entries(self, prefix: str) -> AsyncIterator[BlobEntry]:
        """Every object under `prefix`, in the order of the keys, as one listing goes on."""


class RowInventory(Protocol):
    async def count_rows_in(self, collection: str, page_keys: Sequence[range]) -> int:
        """How many rows the pages of all these ranges have together, strongly consistent."""
