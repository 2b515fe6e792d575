"""Cancel documents, and replace cancelled ones, each with one compare-and-set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from ingestion.adapters.mongo.document_changes import NO_LEASE, DocumentChanges, event, pipeline_stage
from ingestion.adapters.mongo.document_events import outbox_event
from ingestion.adapters.mongo.document_mapping import document_of, record_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.adapters.mongo.filter_queries import query_of
from ingestion.errors import CollectionArchived, Conflict, NotFound
from ingestion.filters import Filter
from ingestion.model import CANCELLATION, Document, DocumentState, EventType, sources_of

_CANCELLABLE: Final[MongoRecord] = {"state": {"$in": sources_of(DocumentState.CANCELLING)}}
_BEGUN: Final[dict[str, Any]] = {
    "state": DocumentState.CANCELLING.value,
    "fence": {"$add": ["$fence", 1]},
    "outbox": "sent",  # no job is to be published any more
    **NO_LEASE,
    **event("cancelled"),
}


class MongoCancellations(DocumentChanges):
    """Implements the port Cancellations."""

    @translated
    async def begin_cancel(self, document_id: str) -> Document:
        record = await self._change_and_read({"_id": document_id, **_CANCELLABLE}, pipeline_stage(_BEGUN))
        if record is None:
            record = await self._documents.find_one({"_id": document_id})
        if record is None:
            raise NotFound(f"there is no document {document_id}")
        document = document_of(record)
        document.require_readable()
        if document.state is DocumentState.ARCHIVED:
            raise CollectionArchived(f"document {document_id} is in a collection that is being archived or restored")
        if document.state not in CANCELLATION:
            raise Conflict(f"document {document_id} is {document.state.value}: there is no work to cancel")
        return document

    @translated
    async def begin_cancels(self, collection: str, where: Filter | None = None) -> int:
        wanted: dict[str, Any] = {"collection": collection, **_CANCELLABLE}
        if where is not None:
            wanted["$and"] = [query_of(where)]
        changed = await self._documents.update_many(wanted, [pipeline_stage(_BEGUN)])
        return int(changed.modified_count)

    @translated
    async def being_cancelled(self, collection: str, limit: int, *, after: str = "") -> list[Document]:
        wanted = {"collection": collection, "state": DocumentState.CANCELLING.value, "_id": {"$gt": after}}
        found = await self._documents.find(wanted, {"story": 0}).sort("_id", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def end_cancel(self, document: Document) -> Document | None:
        begun = {"_id": document.id, "state": DocumentState.CANCELLING.value, "fence": document.fence}
        ended = {
            "state": DocumentState.CANCELLED.value,
            "stage": "",
            "pages_done": 0,
            "text_pages": None,
            "error": None,
            **outbox_event(EventType.CANCELLED),
        }
        record = await self._change_and_read(begun, pipeline_stage(ended))
        return None if record is None else document_of(record)

    @translated
    async def restart(self, cancelled: Document, document: Document) -> bool:
        now = datetime.now(UTC)
        fresh = replace(document, state=DocumentState.RECEIVED, outbox="pending", created_at=now, updated_at=now)
        record = record_of(fresh)
        same = {
            "_id": record.pop("_id"),
            "state": DocumentState.CANCELLED.value,
            "first_page_key": cancelled.first_page_key,
        }
        # The event of the cancellation may not have been sent yet.
        before = await self._documents.find_one({"_id": document.id}, {"events": 1, "events_at": 1}) or {}
        record |= {name: before[name] for name in ("events", "events_at") if name in before}
        result = await self._documents.replace_one(same, record)
        return bool(result.modified_count)
