"""What is processed now, and what was finished a moment ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ingestion.adapters.mongo.database import MongoPort, aggregated
from ingestion.adapters.mongo.document_mapping import document_of, recorded_tenant
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.model import Document, DocumentState
from ingestion.ports.work_records import FinishedMinute

_MINUTE_MS: Final = 60_000
_FINISHED: Final = (DocumentState.READY.value, DocumentState.FAILED.value)


class MongoWorkRecords(MongoPort):
    """Implements the port WorkRecords."""

    @translated
    async def in_work(self, limit: int, *, tenant: str | None = None) -> list[Document]:
        now_ms = round((await self._server_time()).timestamp() * 1000)
        wanted: dict[str, Any] = {"state": DocumentState.PROCESSING.value, "lease_until": {"$gt": now_ms}}
        if tenant is not None:
            wanted["tenant"] = recorded_tenant(tenant)
        found = self._documents.find(wanted, {"story": 0}).sort("updated_at", -1).limit(limit)
        return [document_of(record) for record in await found.to_list(None)]

    @translated
    async def finished(self, minutes: int, limit: int, *, tenant: str | None = None) -> list[FinishedMinute]:
        since = await self._server_time() - timedelta(minutes=minutes)
        found: list[FinishedMinute] = []
        for state in _FINISHED:
            pipeline = _minutes_of(state, since, limit, tenant)
            found += [_minute_of(state, group) for group in await aggregated(self._documents, pipeline)]
        return sorted(found, key=lambda one: (one.at, one.state))


def _minutes_of(state: str, since: datetime, limit: int, tenant: str | None) -> list[MongoRecord]:
    """A ready document may change later, when its vectors are made anew: `ready_at` stays."""
    at = "$ready_at" if state == DocumentState.READY else "$updated_at"
    at_ms: MongoRecord = {"$toLong": at}
    is_counted: MongoRecord = {at.removeprefix("$"): {"$gte": since}}
    if tenant is not None:
        is_counted = {**is_counted, "tenant": recorded_tenant(tenant)}
    return [
        {"$match": {"state": state, "updated_at": {"$gte": since}}},
        {"$sort": {"updated_at": -1}},
        {"$limit": limit},
        {"$match": is_counted},
        {"$project": {"pages": 1, "minute_ms": {"$subtract": [at_ms, {"$mod": [at_ms, _MINUTE_MS]}]}}},
        {"$group": {"_id": "$minute_ms", "documents": {"$sum": 1}, "pages": {"$sum": "$pages"}}},
    ]


def _minute_of(state: str, group: MongoRecord) -> FinishedMinute:
    at = datetime.fromtimestamp(int(group["_id"]) / 1000, UTC)
    return FinishedMinute(at, DocumentState(state), int(group["documents"]), int(group["pages"]))
