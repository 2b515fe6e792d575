"""Find documents that a crash or an outage has left unfinished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from bson.int64 import Int64

from ingestion.adapters.mongo.collection_versions import end_change, parsed_change
from ingestion.adapters.mongo.database import aggregated
from ingestion.adapters.mongo.document_changes import NO_LEASE, DocumentChanges, event
from ingestion.adapters.mongo.document_mapping import UNREADABLE, document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.expressions import NOW_MS
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.adapters.mongo.revisions import mark_replaced
from ingestion.model import Document, DocumentState, StaleKind, sources_of

_STALE: Final[dict[StaleKind, MongoRecord]] = {
    StaleKind.UNPUBLISHED: {
        "state": {"$in": [DocumentState.RECEIVED, DocumentState.QUEUED]},
        "outbox": "pending",
    },
    StaleKind.DEAD_LETTER_PENDING: {"state": DocumentState.FAILED, "letter": "pending"},
    StaleKind.ABANDONED: {"state": DocumentState.PROCESSING},
    StaleKind.LOST: {"state": DocumentState.QUEUED, "outbox": "sent"},
    StaleKind.HALF_DELETED: {"state": DocumentState.DELETING},
    StaleKind.REPLACED: {"state": {"$in": sources_of(DocumentState.DELETING)}},
    StaleKind.HALF_CANCELLED: {"state": DocumentState.CANCELLING},
}
_CHANGED_AT: Final = {StaleKind.REPLACED: "replaced_at"}
"""The time from which the age of a kind counts, where it is not that of the last change."""


class MongoRecovery(DocumentChanges):
    """Implements the port Recovery."""

    @translated
    async def stale(
        self, kind: StaleKind, age_s: float, limit: int, *, collection: str | None = None
    ) -> list[Document]:
        # Comparisons with constants, in place of expressions, bound the part of the index that is read. They hold for
        # values of their own type alone: a record without a readable time is never stale.
        since = await self._server_time() - timedelta(seconds=age_s)
        since_ms = Int64(since.timestamp() * 1000)
        changed_at = _CHANGED_AT.get(kind, "updated_at")
        had_no_lease = [{"lease_until": {"$lte": since_ms}}, {"lease_until": None}]
        wanted: dict[str, Any] = {**_STALE[kind], changed_at: {"$lte": since}, "$or": had_no_lease}
        if collection is not None:
            wanted["collection"] = collection
        found = await self._documents.find(wanted).sort(changed_at, 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def expire(self, document_id: str, fence: int) -> bool:
        """The update checks the end of the lease again, because a heartbeat may have extended it."""
        ended = {
            "_id": document_id,
            "fence": fence,
            "state": DocumentState.PROCESSING,
            "$expr": {"$lte": ["$lease_until", NOW_MS]},
        }
        freed = {"state": DocumentState.QUEUED, "outbox": "pending", **NO_LEASE, **event("lease expired")}
        return await self._change(ended, freed)

    @translated
    async def unreadable(self, collection: str | None = None) -> dict[str, int]:
        known = [state.value for state in DocumentState]
        wanted: dict[str, Any] = {"state": {"$nin": known}}
        if collection is not None:
            wanted["collection"] = collection
        pipeline: list[MongoRecord] = [{"$match": wanted}, {"$group": {"_id": "$state", "documents": {"$sum": 1}}}]
        found = await aggregated(self._documents, pipeline)
        counts: Counter[str] = Counter()
        for group in found:
            counts[group["_id"] if isinstance(group["_id"], str) else UNREADABLE] += int(group["documents"])
        return dict(counts)

    @translated
    async def settle_changes(self) -> int:
        settled = 0
        for record in await self._collections.find({"changing.0": {"$exists": True}}).to_list(None):
            for document_id, fence in filter(None, map(parsed_change, record["changing"])):
                if not await self._may_become_ready(document_id, fence):
                    _, key = await self._collection_and_key_of(document_id)
                    await mark_replaced(self._documents, record["_id"], key)
                    await end_change(self._collections, record["_id"], document_id, fence)
                    settled += 1
        return settled

    async def _may_become_ready(self, document_id: str, fence: int) -> bool:
        """Return whether the document is held under `fence`. Only one claim gets a fence: once False, always False."""
        held = {"_id": document_id, "fence": fence, "state": DocumentState.PROCESSING}
        found: Mapping[str, Any] | None = await self._documents.find_one(held, {"_id": 1})
        return found is not None
