"""Changes of a collection's record, each one compare-and-set in the database."""

from __future__ import annotations

from typing import Any

from pymongo import ReturnDocument

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.errors import LeaseLost


class CollectionChanges(MongoPort):
    """The base of the adapters that change a collection under a hold."""

    async def _change_held_collection(self, collection: str, token: str, changes: dict[str, Any]) -> None:
        if await self._change_collection({"_id": collection, "hold": token}, changes) is None:
            raise hold_lost(collection)

    async def _change_collection(self, condition: dict[str, Any], changes: dict[str, Any]) -> MongoRecord | None:
        record: MongoRecord | None = await self._collections.find_one_and_update(
            condition, [{"$set": changes}], return_document=ReturnDocument.AFTER
        )
        return record


def hold_lost(collection: str) -> LeaseLost:
    return LeaseLost(f"collection {collection!r} is no longer held by this process")
