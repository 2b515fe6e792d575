"""The versions of a file under one key in MongoDB: which one is the newest, and which ones it has replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ingestion.adapters.mongo.collection_versions import change_version
from ingestion.adapters.mongo.database import MongoCollection, MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.model import Document, DocumentState

NOT_REPLACED: Final = {"replaced_by": {"$in": [None, ""]}}
_NOT_REPLACEABLE: Final = [DocumentState.DELETING, DocumentState.DELETED, DocumentState.ARCHIVED]


class MongoRevisions(MongoPort):
    """Implements the port Revisions."""

    @translated
    async def renew_revision(self, known: Document, revision: int) -> None:
        same = {"_id": known.id, "first_page_key": known.first_page_key, **NOT_REPLACED}
        await self._documents.update_one(same, {"$max": {"revision": revision}})
        await mark_replaced(self._documents, known.collection, known.key)
        await change_version(self._collections, known.collection)


async def newest_of_keys(documents: MongoCollection, collection: str, keys: Sequence[str]) -> list[Document]:
    """Return the ready documents of these keys that are not replaced."""
    wanted = {"collection": collection, "key": {"$in": list(keys)}, "state": DocumentState.READY, **NOT_REPLACED}
    return [document_of(record) for record in await documents.find(wanted, {"story": 0}).to_list(None)]


async def mark_replaced(documents: MongoCollection, collection: str, key: str) -> None:
    """Mark all versions of the key that are older than its newest ready one. Twice is safe. "" is no key."""
    if not key:
        return
    ready = {"collection": collection, "key": key, "state": DocumentState.READY, **NOT_REPLACED}
    found = await documents.find(ready, {"revision": 1}).sort("revision", -1).limit(1).to_list(None)
    for newest in found:
        older = {"collection": collection, "key": key, "revision": {"$lt": newest["revision"]}}
        await documents.update_many(
            {**older, "state": {"$nin": _NOT_REPLACEABLE}, **NOT_REPLACED},
            [{"$set": {"replaced_by": {"$literal": newest["_id"]}, "replaced_at": "$$NOW"}}],
        )
