"""What a tenant uses: counted documents, and a counter for each day."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ReturnDocument

from ingestion.adapters.mongo.database import Database, MongoPort, aggregated
from ingestion.adapters.mongo.document_mapping import recorded_tenant
from ingestion.adapters.mongo.errors import DEPENDENCY, translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.concurrency.request_batching import RequestBatcher
from ingestion.model import UNFINISHED, DocumentState
from ingestion.ports import DayUsage, TenantContents


class MongoTenantUsage(MongoPort):
    """Implements the port TenantUsage. Concurrent calls of `tenant_contents` share a count for each tenant."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._counts: RequestBatcher[str, TenantContents] = RequestBatcher(self._count_all, dependency=DEPENDENCY)

    async def tenant_contents(self, tenant: str) -> TenantContents:
        return await self._counts.call(tenant)

    @translated
    async def _count_all(self, tenants: Sequence[str]) -> list[TenantContents]:
        counted = {tenant: await self._contents_of(tenant) for tenant in dict.fromkeys(tenants)}
        return [counted[tenant] for tenant in tenants]

    async def _contents_of(self, tenant: str) -> TenantContents:
        pipeline: list[MongoRecord] = [
            {"$match": {"tenant": recorded_tenant(tenant)}},
            {"$group": {"_id": "$state", "documents": {"$sum": 1}, "pages": {"$sum": "$pages"}}},
        ]
        groups = {group["_id"]: group for group in await aggregated(self._documents, pipeline)}
        in_flight = sum(int(groups[state.value]["documents"]) for state in UNFINISHED if state.value in groups)
        return TenantContents(in_flight, int(groups.get(DocumentState.READY.value, {}).get("pages", 0)))

    @translated
    async def add_usage(self, tenant: str, day: str, size_bytes: int, pages: int) -> DayUsage:
        record = await self._counters.find_one_and_update(
            {"_id": f"usage:{tenant}:{day}"},
            {"$inc": {"size_bytes": size_bytes, "pages": pages}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return DayUsage(int(record["size_bytes"]), int(record["pages"]))
