"""Change metadata and tags of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ingestion.adapters.mongo.collection_versions import begin_change, end_change
from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.document_mapping import labels_record
from ingestion.adapters.mongo.errors import translated
from ingestion.model import Document, DocumentState, Metadata

_UNCHANGEABLE: Final = [DocumentState.ARCHIVED, DocumentState.DELETING, DocumentState.DELETED]


class MongoMetadataRecords(MongoPort):
    """Implements the port MetadataRecords."""

    @translated
    async def change_metadata(self, known: Document, metadata: Metadata, tags: Sequence[str]) -> bool:
        same: dict[str, Any] = {
            "_id": known.id,
            "first_page_key": known.first_page_key,
            "state": {"$nin": _UNCHANGEABLE},
        }
        for name, value in labels_record(known.metadata, known.tags).items():
            same[name] = value if value else {"$in": [None, []]}
        # An entry of its own: the worker that makes the document ready ends the change under the document's id.
        change = f"{known.id}/metadata"
        await begin_change(self._collections, known.collection, change, known.fence)
        try:
            changed = await self._documents.update_one(same, {"$set": labels_record(metadata, tags)})
        finally:
            await end_change(self._collections, known.collection, change, known.fence)
        return bool(changed.matched_count)
