"""The records of collections."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ingestion.catalogue.states import CollectionRecord, CollectionTotals


class CollectionCatalogue(Protocol):
    async def collection(self, collection: str) -> CollectionRecord | None:
        """None where no embedder is bound to the collection, as before its first page."""

    async def collection_records(self) -> Sequence[CollectionRecord]:
        """Those of all collections that an embedder is bound to, in the order of their names."""

    async def collections(self) -> Sequence[str]:
        """The names of the collections that an embedder is bound to, in their order."""

    async def collection_fingerprint(self, collection: str) -> str | None:
        """The embedder bound to the collection, None before its first page."""

    async def collection_totals(self, tenant: str | None = None) -> dict[str, CollectionTotals]:
        """Return the totals of every collection, or every one of the tenant, that a document names."""

    async def require_active(self, collection: str) -> None:
        """Raises CollectionArchived where the collection is in any state but ACTIVE. An unknown one is active."""

    async def touch_collections(self, collections: Collection[str]) -> None:
        """Record that they are in use now. Unknown ones stay unknown."""
