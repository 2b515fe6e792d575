"""Read the versions of collections."""

from __future__ import annotations

from ingestion.adapters.mongo.bindings import binding_of
from ingestion.adapters.mongo.catalogue import require_active
from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.errors import translated
from ingestion.ports import Searchable


class MongoCollectionVersions(MongoPort):
    """Implements the port CollectionVersions."""

    @translated
    async def searchable(self, collection: str) -> Searchable | None:
        record = await self._collections.find_one({"_id": collection})
        if record is None:
            return None
        require_active(record)
        return Searchable(binding_of(record), None if record.get("changing") else str(record.get("version", 0)))
