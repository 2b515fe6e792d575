"""How a change of a collection's version is written to MongoDB; `CollectionVersions` says when.

A collection's record holds `version`, which grows with every change, and `changing`: which documents may be becoming
ready at this moment, each with the fence it does so under. Both are in one record, so that one read shows both.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from bson.int64 import Int64

from ingestion.adapters.mongo.database import MongoCollection

_CHANGING: Final = {"$ifNull": ["$changing", []]}
_FIRST_VERSION_BITS: Final = 52


def changed_version() -> dict[str, Any]:
    """What an update pipeline sets `version` to. A new collection begins anywhere, so that no version comes again."""
    anywhere = Int64(secrets.randbits(_FIRST_VERSION_BITS))
    return {"$add": [{"$ifNull": ["$version", anywhere]}, 1]}


async def change_version(collections: MongoCollection, collection: str) -> None:
    await collections.update_one({"_id": collection}, [{"$set": {"version": changed_version()}}])


async def begin_change(collections: MongoCollection, collection: str, document_id: str, fence: int) -> None:
    """From now on the document may become ready under this fence."""
    changing = {"$setUnion": [_CHANGING, [_change(document_id, fence)]]}
    await collections.update_one({"_id": collection}, [{"$set": {"version": changed_version(), "changing": changing}}])


async def end_change(collections: MongoCollection, collection: str, document_id: str, fence: int) -> None:
    """The document has become ready, or can no longer do so under this fence. Twice is safe."""
    changing = {"$setDifference": [_CHANGING, [_change(document_id, fence)]]}
    await collections.update_one({"_id": collection}, [{"$set": {"version": changed_version(), "changing": changing}}])


def parsed_change(change: object) -> tuple[str, int] | None:
    """The document's id and the fence. None for what a newer release may have put there."""
    document_id, _, fence = change.rpartition(":") if isinstance(change, str) else ("", "", "")
    return (document_id, int(fence)) if fence.isdecimal() else None


def _change(document_id: str, fence: int) -> dict[str, str]:
    return {"$literal": f"{document_id}:{fence}"}
