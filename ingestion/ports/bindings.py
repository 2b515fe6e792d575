"""Which embedder fills a collection."""

from __future__ import annotations

from typing import Protocol

from ingestion.catalogue.generations import Binding


class Bindings(Protocol):
    async def binding(self, collection: str) -> Binding | None:
        """Return the present binding of the collection, None before its first page."""

    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> Binding:
        """Bind the collection to the embedder if it is new. Returns its binding.

        Raises EmbedderNotCurrent if this embedder is a former or the coming one, or while no embedder may fill the
        collection, EmbedderMismatch for any other embedder, CollectionArchived if the collection is not active.
        """
