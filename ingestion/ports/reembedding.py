"""The progress of a collection's documents into the next generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.catalogue.generations import GenerationTotals
from ingestion.model import Document


class ReembeddingRecords(Protocol):
    async def missing_from(self, collection: str, generation: int, *, after: str, limit: int) -> Sequence[Document]:
        """Return ready documents that are not completely in the generation, in the order of ids, after `after`."""

    async def generation_totals(self, collection: str, generation: int) -> GenerationTotals: ...

    async def advance(self, document: Document, generation: int, pages_done: int) -> None:
        """Record that pages up to `pages_done` of a ready document are in the coming generation; 0 means none.

        Raises Conflict if the document is no longer ready, is gone, or was uploaded again.
        """

    async def settle(self, document: Document, current: int) -> None:
        """Reduce the document's records to generation `current` if it is complete there, else to its own."""

    async def fence_off(self, collection: str) -> Sequence[Document]:
        """Every document that is being processed becomes `queued` under a new fence, with the outbox pending.

        The attempt is not counted. The worker of the document gets LeaseLost. Returns the documents.
        """
