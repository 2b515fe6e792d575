"""Which embedder fills a collection."""

from __future__ import annotations

from typing import Protocol

from ingestion.catalogue.generations import Binding


class Bindings(Protocol):
    async def binding(self, collection: str) -> Binding | None:
        """What the collection is bound to now, None before its first page."""

    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> Binding:
        """Remember which embedder fills the collection, where it is new; what it is bound to.

        Raises EmbedderNotCurrent where this one has filled it before, or will, or while no embedder may fill it, and
        EmbedderMismatch for any other, CollectionArchived where the collection is not active.
        """
