"""What the janitor and the replay keep in MongoDB: what has been left behind, and what was done about dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.fields import moment_of
from ingestion.adapters.mongo.records import UNREADABLE, Record, document_of, translated
from ingestion.model import Document, DocumentState, LetterMark, StaleKind

_STALE: Final[dict[StaleKind, Record]] = {
    StaleKind.UNPUBLISHED: {
        "state": {"$in": [DocumentState.RECEIVED, DocumentState.QUEUED]},
        "outbox": "pending",
    },
    StaleKind.DEAD_LETTER_PENDING: {"state": DocumentState.FAILED, "letter": "pending"},
    StaleKind.ABANDONED: {"state": DocumentState.PROCESSING},
    StaleKind.LOST: {"state": DocumentState.QUEUED, "outbox": "sent"},
    StaleKind.HALF_DELETED: {"state": DocumentState.DELETING},
}


class MongoUpkeep:
    """A part of the document store. `_documents` and `_letters` are set on opening."""

    _documents: AsyncIOMotorCollection[dict[str, Any]]
    _letters: AsyncIOMotorCollection[dict[str, Any]]

    @translated
    async def stale(
        self, kind: StaleKind, age_s: float, limit: int, *, collection: str | None = None
    ) -> list[Document]:
        # A record without a readable time is never stale.
        is_time = {"$eq": [{"$type": "$updated_at"}, "date"]}
        updated_ms = {"$cond": [is_time, {"$toLong": "$updated_at"}, {"$toLong": "$$NOW"}]}
        since = {"$max": ["$lease_until", updated_ms]}
        old = {"$lte": [since, {"$subtract": [{"$toLong": "$$NOW"}, round(age_s * 1000)]}]}
        wanted: dict[str, Any] = {**_STALE[kind], "$expr": old}
        if collection is not None:
            wanted["collection"] = collection
        found = await self._documents.find(wanted).sort("updated_at", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def mark_letter(self, mark: LetterMark) -> bool:
        try:
            await self._letters.insert_one(
                {"_id": mark.letter_id, "action": mark.action, "by": mark.by, "why": mark.why, "at": datetime.now(UTC)}
            )
        except DuplicateKeyError:
            return False
        return True

    @translated
    async def letter_marks(self, letter_ids: Collection[str]) -> dict[str, LetterMark]:
        found = await self._letters.find({"_id": {"$in": list(letter_ids)}}).to_list(None)
        return {
            record["_id"]: LetterMark(
                letter_id=record["_id"],
                action=str(record.get("action", "")),
                by=str(record.get("by", "")),
                why=str(record.get("why", "")),
                at=moment_of(record.get("at")),
            )
            for record in found
        }

    @translated
    async def unreadable(self, collection: str | None = None) -> dict[str, int]:
        known = [state.value for state in DocumentState]
        wanted: dict[str, Any] = {"state": {"$nin": known}}
        if collection is not None:
            wanted["collection"] = collection
        pipeline: list[Record] = [{"$match": wanted}, {"$group": {"_id": "$state", "documents": {"$sum": 1}}}]
        found = await self._documents.aggregate(pipeline).to_list(None)
        counts: Counter[str] = Counter()
        for group in found:
            counts[group["_id"] if isinstance(group["_id"], str) else UNREADABLE] += int(group["documents"])
        return dict(counts)
