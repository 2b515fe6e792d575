"""Record which jobs and dead letters are still to be published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingestion.adapters.mongo.database import Database
from ingestion.adapters.mongo.document_changes import NO_LEASE, DocumentChanges, event
from ingestion.adapters.mongo.errors import DEPENDENCY, translated
from ingestion.adapters.mongo.flows import note_queued
from ingestion.concurrency.request_batching import RequestBatcher
from ingestion.model import Document, DocumentState


class MongoOutbox(DocumentChanges):
    """Implements the port Outbox. Concurrent calls of `mark_queued` share a request."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._queued: RequestBatcher[Document, None] = RequestBatcher(self._mark_all, dependency=DEPENDENCY)

    async def mark_queued(self, document: Document) -> None:
        await self._queued.call(document)

    @translated
    async def requeue(self, document_id: str, *, fence: int | None = None) -> bool:
        found: dict[str, Any] = {"_id": document_id, "state": DocumentState.FAILED}
        if fence is not None:
            found["fence"] = fence
        fresh = {
            "state": DocumentState.QUEUED,
            "outbox": "pending",
            "letter": "",
            "attempts": 0,
            "outages": 0,
            "error": None,
            "requeued_at": "$$NOW",
            **NO_LEASE,
            **event("requeued"),
        }
        return await self._change(found, fresh)

    @translated
    async def mark_dead_letter_sent(self, document_id: str, fence: int) -> None:
        await self._change({"_id": document_id, "fence": fence, "state": DocumentState.FAILED}, {"letter": "sent"})

    @translated
    async def _mark_all(self, documents: Sequence[Document]) -> list[None]:
        queued_if_received = {
            "$cond": [{"$eq": ["$state", DocumentState.RECEIVED]}, DocumentState.QUEUED.value, "$state"]
        }
        update = [{"$set": {"outbox": "sent", "state": queued_if_received, "updated_at": "$$NOW"}}]
        # One statement for all. Page keys are never given twice: no record has the id of one and the key of another.
        same_uploads = {
            "_id": {"$in": [one.id for one in documents]},
            "first_page_key": {"$in": [one.first_page_key for one in documents]},
        }
        await self._documents.update_many(same_uploads, update)
        await note_queued(self._flows, documents)
        return [None] * len(documents)
