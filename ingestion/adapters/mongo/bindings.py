"""Bind a collection to the embedder that fills it."""

from __future__ import annotations

from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.collection_mapping import binding_of, require_active
from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.errors import translated
from ingestion.catalogue.generations import Binding


class MongoBindings(MongoPort):
    """Implements the port Bindings."""

    @translated
    async def binding(self, collection: str) -> Binding | None:
        record = await self._collections.find_one({"_id": collection})
        return None if record is None else binding_of(record)

    @translated
    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> Binding:
        while (record := await self._collections.find_one({"_id": collection})) is None:
            try:
                await self._collections.insert_one({"_id": collection, "embedder": fingerprint, "dim": dim})
            except DuplicateKeyError:
                continue  # another process bound it first, perhaps to another embedder
        require_active(record)
        bound = binding_of(record)
        bound.require_current(fingerprint, dim)
        return bound
