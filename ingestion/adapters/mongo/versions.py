"""The versions of collections, read from MongoDB, and changes of them that were cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motor.motor_asyncio import AsyncIOMotorCollection

from ingestion.adapters.mongo.bindings import binding_of
from ingestion.adapters.mongo.collections import require_active
from ingestion.adapters.mongo.records import translated
from ingestion.adapters.mongo.version_changes import Collections, end_change, parsed_change
from ingestion.model import DocumentState
from ingestion.ports.versions import Searchable


class MongoVersions:
    """A part of the document store. Its collections are set on opening."""

    _collections: Collections
    _documents: AsyncIOMotorCollection[dict[str, Any]]

    @translated
    async def searchable(self, collection: str) -> Searchable | None:
        record = await self._collections.find_one({"_id": collection})
        if record is None:
            return None
        require_active(record)
        return Searchable(binding_of(record), None if record.get("changing") else str(record.get("version", 0)))

    @translated
    async def settle_changes(self) -> int:
        settled = 0
        for record in await self._collections.find({"changing.0": {"$exists": True}}).to_list(None):
            for document_id, fence in filter(None, map(parsed_change, record["changing"])):
                if not await self._may_become_ready(document_id, fence):
                    await end_change(self._collections, record["_id"], document_id, fence)
                    settled += 1
        return settled

    async def _may_become_ready(self, document_id: str, fence: int) -> bool:
        """A fence is given to one claim only: a document that was once seen not to be held under it never will be."""
        held = {"_id": document_id, "fence": fence, "state": DocumentState.PROCESSING}
        found: Mapping[str, Any] | None = await self._documents.find_one(held, {"_id": 1})
        return found is not None
