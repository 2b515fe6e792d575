"""Collections in MongoDB: their states, and who holds them. Every change is one compare-and-set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument

from ingestion.adapters.mongo.fields import Reader, moment_of
from ingestion.adapters.mongo.records import UNREADABLE, Record, translated
from ingestion.adapters.mongo.version_changes import changed_version
from ingestion.catalogue.generations import FIRST
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState, CollectionTotals
from ingestion.errors import (
    BadRecord,
    CollectionArchived,
    CollectionBusy,
    CollectionHeld,
    LeaseLost,
    NewerRecord,
    NotFound,
)
from ingestion.model import DocumentState

log = structlog.get_logger(__name__)

_NOW_MS: Final = {"$toLong": "$$NOW"}
_HOLD_ENDS: Final = {"$ifNull": ["$hold_until", 0]}


class MongoCollections:
    """A part of the document store. Its collections are set on opening."""

    _collections: AsyncIOMotorCollection[dict[str, Any]]
    _documents: AsyncIOMotorCollection[dict[str, Any]]

    @translated
    async def collection(self, collection: str) -> CollectionRecord | None:
        record = await self._collections.find_one({"_id": collection})
        return None if record is None else collection_of(record)

    @translated
    async def collection_records(self) -> list[CollectionRecord]:
        found = []
        for record in await self._collections.find({}).sort("_id", 1).to_list(None):
            try:
                found.append(collection_of(record))
            except BadRecord as error:
                log.warning("record left out", cause=error.message)
        return found

    @translated
    async def collection_totals(self) -> dict[str, CollectionTotals]:
        is_ready = {"$eq": ["$state", DocumentState.READY]}
        pipeline: list[Record] = [
            {
                "$group": {
                    "_id": {"collection": "$collection", "state": "$state"},
                    "documents": {"$sum": 1},
                    "pages": {"$sum": {"$cond": [is_ready, "$pages", "$pages_done"]}},
                    "source_bytes": {"$sum": "$size_bytes"},
                }
            }
        ]
        totals: dict[str, CollectionTotals] = {}
        for group in await self._documents.aggregate(pipeline).to_list(None):
            name, state = (str(group["_id"].get(field, UNREADABLE)) for field in ("collection", "state"))
            known = totals.setdefault(name, CollectionTotals())
            known.documents[state] += int(group["documents"])
            totals[name] = CollectionTotals(
                known.documents, known.pages + int(group["pages"]), known.source_bytes + int(group["source_bytes"])
            )
        return totals

    @translated
    async def touch_collections(self, collections: Collection[str]) -> None:
        await self._collections.update_many(
            {"_id": {"$in": list(collections)}}, {"$set": {"last_used_at": datetime.now(UTC)}}
        )

    @translated
    async def hold_collection(self, collection: str, token: str, lease_ms: int) -> CollectionRecord:
        is_free = {"$or": [{"$lte": [_HOLD_ENDS, _NOW_MS]}, {"$eq": ["$hold", token]}]}
        record = await self._change_collection(
            {"_id": collection, "$expr": is_free}, {"hold": token, "hold_until": _ends_in(lease_ms)}
        )
        if record is None:
            raise await self._why_not_held(collection)
        return collection_of(record)

    @translated
    async def renew_collection_hold(self, collection: str, token: str, lease_ms: int) -> None:
        await self._change_held_collection(collection, token, {"hold_until": _ends_in(lease_ms)})

    @translated
    async def release_collection(self, collection: str, token: str) -> None:
        await self._change_collection({"_id": collection, "hold": token}, {"hold": "", "hold_until": 0})

    @translated
    async def begin_archive(self, collection: str, token: str, archive_id: str) -> None:
        archive = asdict(Archive(archive_id))
        begun = {
            "state": CollectionState.ARCHIVING.value,
            "archive": {"$literal": archive},
            "version": changed_version(),
        }
        whole: dict[str, Any] = {"_id": collection, "hold": token, "next": None, "leaving": {"$in": [None, []]}}
        if await self._change_collection(whole, begun) is None:
            await self._change_held_collection(collection, token, {"hold": token})
            raise CollectionBusy(f"collection {collection!r} is being re-embedded; archive it once that is done")

    @translated
    async def move_collection(
        self, collection: str, token: str, state: CollectionState, archive: Archive | None
    ) -> None:
        # What a newer release keeps of the same archive stays.
        known = {"$cond": [{"$eq": ["$archive.id", archive and archive.id]}, "$archive", {}]}
        packed = None if archive is None else {"$mergeObjects": [known, {"$literal": asdict(archive)}]}
        changes = {"state": state.value, "archive": packed, "version": changed_version()}
        await self._change_held_collection(collection, token, changes)

    @translated
    async def forget_collection(self, collection: str, token: str) -> None:
        gone = await self._collections.delete_one({"_id": collection, "hold": token})
        if not gone.deleted_count:
            raise _lost(collection)

    async def _why_not_held(self, collection: str) -> CollectionHeld | NotFound:
        remaining = {"$subtract": [_HOLD_ENDS, _NOW_MS]}
        pipeline: list[Record] = [{"$match": {"_id": collection}}, {"$project": {"remaining_ms": remaining}}]
        found = await self._collections.aggregate(pipeline).to_list(1)
        if not found:
            return NotFound(f"there is no collection {collection!r} with pages in it")
        return CollectionHeld(collection, retry_in_s=max(0, int(found[0]["remaining_ms"])) / 1000)

    async def _change_held_collection(self, collection: str, token: str, changes: dict[str, Any]) -> None:
        if await self._change_collection({"_id": collection, "hold": token}, changes) is None:
            raise _lost(collection)

    async def _change_collection(self, condition: dict[str, Any], changes: dict[str, Any]) -> Record | None:
        record: Record | None = await self._collections.find_one_and_update(
            condition, [{"$set": changes}], return_document=ReturnDocument.AFTER
        )
        return record


def collection_of(record: Record) -> CollectionRecord:
    """Raises BadRecord."""
    reader = Reader(record)
    collection = CollectionRecord(
        name=reader.text("_id"),
        embedder=reader.text("embedder"),
        dim=reader.whole("dim"),
        generation=reader.whole("generation", optional=True) or FIRST,
        state=CollectionState(reader.text("state", CollectionState.ACTIVE, optional=True)),
        archive=_archive_of(record.get("archive")),
        last_used_at=moment_of(record.get("last_used_at")),
    )
    reader.require_whole("collection")
    return collection


def _archive_of(record: object) -> Archive | None:
    if not record:
        return None
    if not isinstance(record, Mapping):
        raise BadRecord(f"an archive is a {type(record).__name__}")
    reader = Reader(record)
    counts = {name: reader.whole(name, optional=True) for name in ("documents", "pages", "rows", "size_bytes")}
    archive = Archive(reader.text("id"), **counts)
    reader.require_whole("an archive")
    return archive


def require_active(record: Record) -> None:
    """Raises CollectionArchived where the record's state allows no use, NewerRecord where it is not known.

    It needs `_id` and `state` only.
    """
    state, name = CollectionState(str(record.get("state", CollectionState.ACTIVE))), record["_id"]
    if state is CollectionState.ACTIVE:
        return
    if not state.is_known:
        raise NewerRecord(f"collection {name!r} is {state.value!r}: use it with the release that put it there")
    if state is CollectionState.DROPPING:
        raise CollectionArchived(f"collection {name!r} is being dropped; use it again once that is done")
    if state in (CollectionState.RESTORING, CollectionState.OPENING):
        raise CollectionArchived(f"collection {name!r} is being restored; use it again once that is done")
    raise CollectionArchived(f"collection {name!r} is archived; `pagemill collections restore {name}` brings it back")


def _lost(collection: str) -> LeaseLost:
    return LeaseLost(f"collection {collection!r} is no longer held by this process")


def _ends_in(lease_ms: int) -> dict[str, Any]:
    return {"$add": [_NOW_MS, lease_ms]}
