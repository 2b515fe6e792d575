"""Which documents have sign codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.model import Document


class SignCodeRecords(Protocol):
    async def without_codes(self, limit: int, *, after: str = "", collection: str | None = None) -> Sequence[Document]:
        """Ready documents without sign codes, or with those of an earlier format, by id, from after the id `after`."""

    async def count_without_codes(self, limit: int, *, collection: str | None = None) -> int:
        """How many documents `without_codes` would find, at most `limit`: to count more would take long."""

    async def set_codes_format(self, document: Document, codes_format: int) -> bool:
        """Record the format of the document's sign codes. Twice is safe.

        Returns False, and changes nothing, where the document is no longer ready, is gone, was uploaded anew, has
        another `codes_format` than `document`, or has come into another generation.
        """
