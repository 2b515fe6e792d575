"""Holds on collections, and what is changed under a hold. Every change is one compare-and-set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from ingestion.adapters.mongo.collection_changes import CollectionChanges, hold_lost
from ingestion.adapters.mongo.collection_mapping import collection_of
from ingestion.adapters.mongo.collection_versions import changed_version
from ingestion.adapters.mongo.database import aggregated
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.expressions import NOW_MS, ms_from_now
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState
from ingestion.errors import CollectionHeld, NotFound
from ingestion.model import Document, DocumentState

FROZEN: Final = DocumentState.ARCHIVED.value
FREEZE_FIELDS: Final = ("frozen_from", "archive")
_FREEZABLE: Final = (DocumentState.READY.value, DocumentState.FAILED.value, DocumentState.CANCELLED.value)
_HOLD_ENDS: Final = {"$ifNull": ["$hold_until", 0]}


class MongoHolds(CollectionChanges):
    """Implements the port Holds."""

    @translated
    async def hold_collection(self, collection: str, token: str, lease_ms: int) -> CollectionRecord:
        is_free = {"$or": [{"$lte": [_HOLD_ENDS, NOW_MS]}, {"$eq": ["$hold", token]}]}
        record = await self._change_collection(
            {"_id": collection, "$expr": is_free}, {"hold": token, "hold_until": ms_from_now(lease_ms)}
        )
        if record is None:
            raise await self._why_not_held(collection)
        return collection_of(record)

    @translated
    async def renew_collection_hold(self, collection: str, token: str, lease_ms: int) -> None:
        await self._change_held_collection(collection, token, {"hold_until": ms_from_now(lease_ms)})

    @translated
    async def release_collection(self, collection: str, token: str) -> None:
        await self._change_collection({"_id": collection, "hold": token}, {"hold": "", "hold_until": 0})

    @translated
    async def move_collection(
        self, collection: str, token: str, state: CollectionState, archive: Archive | None
    ) -> None:
        # Fields that a newer release wrote about the same archive stay.
        known = {"$cond": [{"$eq": ["$archive.id", archive and archive.id]}, "$archive", {}]}
        packed = None if archive is None else {"$mergeObjects": [known, {"$literal": asdict(archive)}]}
        changes = {"state": state.value, "archive": packed, "version": changed_version()}
        await self._change_held_collection(collection, token, changes)

    @translated
    async def forget_collection(self, collection: str, token: str) -> None:
        gone = await self._collections.delete_one({"_id": collection, "hold": token})
        if not gone.deleted_count:
            raise hold_lost(collection)

    @translated
    async def freeze(self, collection: str, archive_id: str) -> None:
        for state in _FREEZABLE:
            await self._documents.update_many(
                {"collection": collection, "state": state},
                [
                    {
                        "$set": {
                            "state": FROZEN,
                            "frozen_from": state,
                            "archive": {"$literal": archive_id},
                            "updated_at": "$$NOW",
                        }
                    }
                ],
            )
        await self._documents.update_many(
            {"collection": collection, "state": FROZEN}, {"$set": {"archive": archive_id}}
        )

    @translated
    async def thaw(self, collection: str, archive_id: str) -> None:
        for state in _FREEZABLE:
            await self._documents.update_many(
                {"collection": collection, "state": FROZEN, "archive": archive_id, "frozen_from": state},
                [{"$set": {"state": state, "updated_at": "$$NOW"}}, {"$unset": list(FREEZE_FIELDS)}],
            )

    @translated
    async def unfrozen(self, collection: str, limit: int) -> list[Document]:
        wanted = {"collection": collection, "state": {"$ne": FROZEN}}
        found = await self._documents.find(wanted).sort("_id", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    async def _why_not_held(self, collection: str) -> CollectionHeld | NotFound:
        remaining = {"$subtract": [_HOLD_ENDS, NOW_MS]}
        pipeline: list[MongoRecord] = [{"$match": {"_id": collection}}, {"$project": {"remaining_ms": remaining}}]
        found = await aggregated(self._collections, pipeline, limit=1)
        if not found:
            return NotFound(f"there is no collection {collection!r} with pages in it")
        return CollectionHeld(collection, retry_in_s=max(0, int(found[0]["remaining_ms"])) / 1000)
