"""Changes of documents in their order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from bson.int64 import Int64

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.model import Document, DocumentState, Flow, waiting_before

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
        if document.priority is None:  # its own record alone serves it, in the order of the topic
            wanted = {"state": {"$in": _WAITING}, "created_at": {"$lt": document.created_at}}
            return int(await self._documents.count_documents(wanted, limit=limit))
        flow = document.flow
        ahead = await self._waiting_in(flow, limit, {"first_page_key": {"$lt": Int64(document.first_page_key)}})
        others = [Flow.named(record["_id"]) for record in await self._flows.find({}).to_list(None)]
        counted = {one: await self._waiting_in(one, limit) for one in others if one not in (None, flow)}
        return min(limit, waiting_before(flow, ahead, counted))

    async def _waiting_in(self, flow: Flow, limit: int, condition: MongoRecord | None = None) -> int:
        wanted = {"flow": flow.name, "state": {"$in": _WAITING}, **(condition or {})}
        return int(await self._documents.count_documents(wanted, limit=limit))
