"""How far the documents of a collection have come into the next generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.catalogue.generations import GenerationTotals
from ingestion.model import Document


class ReembeddingRecords(Protocol):
    async def missing_from(self, collection: str, generation: int, *, after: str, limit: int) -> Sequence[Document]:
        """Ready documents that are not completely in the generation, in the order of their ids, from after `after`."""

    async def generation_totals(self, collection: str, generation: int) -> GenerationTotals: ...

    async def advance(self, document: Document, generation: int, pages_done: int) -> None:
        """Pages up to `pages_done` of a ready document are in the coming generation, or, with 0, none is.

        Raises Conflict where the document is no longer ready, is gone, or was uploaded anew.
        """

    async def settle(self, document: Document, current: int) -> None:
        """The document's records speak of generation `current` alone, where all of it is there; else of its own."""

    async def fence_off(self, collection: str) -> Sequence[Document]:
        """Every document that is being processed becomes `queued` under a new fence, with the outbox pending; the
        attempt is not counted. Its worker gets LeaseLost."""
