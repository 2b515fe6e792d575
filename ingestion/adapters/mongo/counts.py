"""Totals of documents."""

from __future__ import annotations

from collections.abc import Mapping

from ingestion.adapters.mongo.database import MongoPort, aggregated
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.model import UNFINISHED, DocumentState


class MongoDocumentCounts(MongoPort):
    """Implements the port DocumentCounts. Each method is one aggregation over an index that begins with the state."""

    @translated
    async def count_by_state(self) -> Mapping[DocumentState, int]:
        pipeline: list[MongoRecord] = [
            {"$match": {"state": {"$gte": ""}}},  # every text: the index alone answers
            {"$group": {"_id": "$state", "documents": {"$sum": 1}}},
        ]
        found = await aggregated(self._documents, pipeline)
        return {DocumentState(group["_id"]): int(group["documents"]) for group in found}

    @translated
    async def oldest_unfinished_s(self) -> Mapping[DocumentState, float]:
        since = {"$ifNull": ["$requeued_at", "$created_at"]}
        is_time = {"$eq": [{"$type": since}, "date"]}
        age_ms = {"$subtract": [{"$toLong": "$$NOW"}, {"$toLong": since}]}
        pipeline: list[MongoRecord] = [
            {"$match": {"state": {"$in": [state.value for state in UNFINISHED]}}},
            {"$project": {"state": 1, "age_ms": {"$cond": [is_time, age_ms, 0]}}},
            {"$group": {"_id": "$state", "age_ms": {"$max": "$age_ms"}}},
        ]
        found = await aggregated(self._documents, pipeline)
        return {DocumentState(group["_id"]): max(0.0, int(group["age_ms"]) / 1000) for group in found}
