"""Changes of documents in their order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.model import Document, DocumentState

_WAITING: Final = [DocumentState.RECEIVED.value, DocumentState.QUEUED.value]


class MongoDocumentFeed(MongoPort):
    """Implements the port DocumentFeed."""

    @translated
    async def changed_since(self, collection: str, since_ms: int, limit: int) -> list[Document]:
        since = datetime.fromtimestamp(since_ms / 1000, UTC)
        wanted = {"collection": collection, "updated_at": {"$gte": since}}
        found = self._documents.find(wanted, {"story": 0}).sort("updated_at", 1).limit(limit)
        return [document_of(record) for record in await found.to_list(None)]

    @translated
    async def last_change_ms(self, collection: str) -> int:
        newest = self._documents.find({"collection": collection}, {"updated_at": 1}).sort("updated_at", -1).limit(1)
        for record in await newest.to_list(None):
            if isinstance(at := record.get("updated_at"), datetime):
                return round(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)
        return 0

    @translated
    async def waiting_before(self, document: Document, limit: int) -> int:
        wanted = {"state": {"$in": _WAITING}, "created_at": {"$lt": document.created_at}}
        return int(await self._documents.count_documents(wanted, limit=limit))
