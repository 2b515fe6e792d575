"""Read and change a collection's version in MongoDB. The port `CollectionVersions` says which actions change it.

A collection's record holds `version`, which grows with every change, and `changing`: the documents that may become
ready now, each with its fence. One read returns both, because both are in one record.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from bson.int64 import Int64

from ingestion.adapters.mongo.collection_mapping import binding_of, require_active
from ingestion.adapters.mongo.database import MongoCollection, MongoPort
from ingestion.adapters.mongo.errors import translated
from ingestion.ports import Searchable

_CHANGING: Final = {"$ifNull": ["$changing", []]}
_FIRST_VERSION_BITS: Final = 52


class MongoCollectionVersions(MongoPort):
    """Implements the port CollectionVersions."""

    @translated
    async def searchable(self, collection: str) -> Searchable | None:
        record = await self._collections.find_one({"_id": collection})
        if record is None:
            return None
        require_active(record)
        return Searchable(binding_of(record), None if record.get("changing") else str(record.get("version", 0)))


def changed_version() -> dict[str, Any]:
    """Return the next version as an expression. The first one is random: a recreated collection repeats none."""
    first = Int64(secrets.randbits(_FIRST_VERSION_BITS))
    return {"$add": [{"$ifNull": ["$version", first]}, 1]}


async def change_version(collections: MongoCollection, collection: str) -> None:
    await collections.update_one({"_id": collection}, [{"$set": {"version": changed_version()}}])


async def begin_change(collections: MongoCollection, collection: str, document_id: str, fence: int) -> None:
    """Record that the document may become ready under this fence."""
    changing = {"$setUnion": [_CHANGING, [_change(document_id, fence)]]}
    await collections.update_one({"_id": collection}, [{"$set": {"version": changed_version(), "changing": changing}}])


async def end_change(collections: MongoCollection, collection: str, document_id: str, fence: int) -> None:
    """Record that the document is ready, or can no longer become ready under this fence. Safe to repeat."""
    changing = {"$setDifference": [_CHANGING, [_change(document_id, fence)]]}
    await collections.update_one({"_id": collection}, [{"$set": {"version": changed_version(), "changing": changing}}])


def parsed_change(change: object) -> tuple[str, int] | None:
    """Return the document's id and the fence. None for an entry of another form, as a newer release may write."""
    document_id, _, fence = change.rpartition(":") if isinstance(change, str) else ("", "", "")
    return (document_id, int(fence)) if fence.isdecimal() else None


def _change(document_id: str, fence: int) -> dict[str, str]:
    return {"$literal": f"{document_id}:{fence}"}
