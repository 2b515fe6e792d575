"""What a tenant uses, in memory."""

from __future__ import annotations

from ingestion.model import UNFINISHED, DocumentState, tenant_of
from ingestion.ports import DayUsage, TenantContents
from tests.memory.state import MemoryPort


class MemoryTenantUsage(MemoryPort):
    async def tenant_contents(self, tenant: str) -> TenantContents:
        own = self._documents(lambda one: tenant_of(one.collection) == tenant)
        in_flight = sum(one.state in UNFINISHED for one in own)
        return TenantContents(in_flight, sum(one.pages for one in own if one.state is DocumentState.READY))

    async def add_usage(self, tenant: str, day: str, size_bytes: int, pages: int) -> DayUsage:
        before = self.state.usage.get((tenant, day), DayUsage(0, 0))
        after = DayUsage(before.size_bytes + size_bytes, before.pages + pages)
        self.state.usage[tenant, day] = after
        return after
