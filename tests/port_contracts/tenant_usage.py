"""What every implementation of the port TenantUsage keeps."""

from __future__ import annotations

from ingestion.bootstrap import DocumentStore
from ingestion.ports import DayUsage, TenantContents
from tests.support.documents import S, document, in_state


class TenantUsageContract:
    async def test_unfinished_documents_and_stored_pages_are_counted_by_tenant(self, store: DocumentStore) -> None:
        for number, state in enumerate((S.READY, S.FAILED, S.QUEUED, S.PROCESSING, S.CANCELLED)):
            await in_state(store, state, f"d{number}")
        await store.insert(document("d9", collection="acme.c"))
        assert await store.tenant_contents("default") == TenantContents(documents_in_flight=2, pages_stored=60)
        assert await store.tenant_contents("acme") == TenantContents(documents_in_flight=1, pages_stored=0)
        assert await store.tenant_contents("nobody") == TenantContents(0, 0)

    async def test_uploads_are_summed_by_tenant_and_day(self, store: DocumentStore) -> None:
        assert await store.add_usage("acme", "2026-11-28", 10, 1) == DayUsage(10, 1)
        assert await store.add_usage("acme", "2026-11-28", 5, 2) == DayUsage(15, 3)
        assert await store.add_usage("acme", "2026-11-29", 1, 1) == DayUsage(1, 1)
        assert await store.add_usage("other", "2026-11-28", 1, 1) == DayUsage(1, 1)
        assert await store.add_usage("acme", "2026-11-28", -5, -2) == DayUsage(10, 1)
