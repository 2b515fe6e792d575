"""Which documents have terms in the lexical index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.model import Document


class TermRecords(Protocol):
    async def without_terms(self, limit: int, *, after: str = "", collection: str | None = None) -> Sequence[Document]:
        """Ready documents without terms, or with those of an earlier format, by id, from after the id `after`."""

    async def count_without_terms(self, limit: int, *, collection: str | None = None) -> int:
        """How many documents `without_terms` would find, at most `limit`: to count more would take long."""

    async def set_terms_format(self, document: Document, terms_format: int) -> bool:
        """Record the format of the document's terms. Twice is safe.

        Returns False, and changes nothing, where the document is no longer ready, is gone, was uploaded anew, or has
        another `terms_format` than `document`.
        """
