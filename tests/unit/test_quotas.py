"""Quotas of tenants."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from ingestion.concurrency.deadline import budget
from ingestion.errors import DependencyUnavailable, QuotaExceeded, StorageQuotaExceeded, TooManyRequests
from ingestion.keys.quotas import QuotaKeeper, Quotas
from ingestion.ports import DayUsage, TenantContents
from tests.memory import MemoryDocumentStore
from tests.support.documents import S, document, in_state
from tests.unit.test_keys import Clock


class SlowStore(MemoryDocumentStore):
    """Other tasks run while it counts."""

    async def tenant_contents(self, tenant: str) -> TenantContents:
        await asyncio.sleep(0)
        return await super().tenant_contents(tenant)


EVENING = datetime(2026, 11, 28, 23, 59, 0, tzinfo=UTC)


def keeper(
    store: MemoryDocumentStore, clock: Clock | None = None, overrides: Any = None, **quotas: int
) -> QuotaKeeper:
    return QuotaKeeper(store, Quotas(**quotas), overrides or {}, clock=clock or Clock(), now=lambda: EVENING)


def test_a_tenant_sends_as_many_requests_in_a_second_and_no_other_one_pays() -> None:
    clock = Clock()
    quotas = keeper(MemoryDocumentStore(), clock, {"big": {"requests_per_s": 0}}, requests_per_s=2)
    for tenant in ("acme", "acme", "other", "big", "big", "big"):
        quotas.check_request(tenant)
    with pytest.raises(TooManyRequests) as refused:
        quotas.check_request("acme")
    assert refused.value.retry_after_s == 1
    clock.now_s += 0.5
    quotas.check_request("acme")
    with pytest.raises(TooManyRequests):
        quotas.check_request("acme")


async def test_bytes_and_pages_of_a_day_are_limited_until_midnight() -> None:
    store = MemoryDocumentStore()
    quotas = keeper(store, bytes_per_day=100, pages_per_day=10)
    await quotas.reserve("acme", 60, 4)
    for size_bytes, pages, what in ((41, 1, "bytes"), (1, 7, "pages")):
        with pytest.raises(QuotaExceeded, match=what) as refused:
            await quotas.reserve("acme", size_bytes, pages)
        assert refused.value.retry_after_s == 60
    assert store.state.usage == {("acme", "2026-11-28"): DayUsage(60, 4)}
    with pytest.raises(StorageQuotaExceeded, match="101"):
        await quotas.reserve("acme", 101, 1)
    await quotas.reserve("acme", 40, 6)
    await quotas.reserve("other", 100, 10)


async def test_a_file_that_is_not_stored_does_not_count_for_the_day() -> None:
    store = MemoryDocumentStore()
    quotas = keeper(store, bytes_per_day=100)
    with budget(0.0), pytest.raises(DependencyUnavailable):  # as after a store that took all of the time
        async with quotas.reserved("acme", 60, 4):
            raise DependencyUnavailable("s3", "down")
    assert store.state.usage == {("acme", "2026-11-28"): DayUsage(0, 0)}
    async with quotas.reserved("acme", 60, 4):
        pass
    with pytest.raises(QuotaExceeded):
        async with quotas.reserved("acme", 60, 4):
            pass
    assert store.state.usage == {("acme", "2026-11-28"): DayUsage(60, 4)}
    with pytest.raises(DependencyUnavailable):  # without quotas nothing is counted
        async with keeper(store).reserved("other", 60, 4):
            raise DependencyUnavailable("s3", "down")
    assert ("other", "2026-11-28") not in store.state.usage


async def test_documents_in_work_and_pages_stored_are_limited() -> None:
    store, clock = MemoryDocumentStore(), Clock()
    quotas = keeper(store, clock, documents_in_flight=3, pages_stored=200)
    await in_state(store, S.READY, "d1")  # of the default tenant, with 60 pages
    await in_state(store, S.PROCESSING, "d2")
    await store.insert(document("d3", collection="acme.c"))
    for _ in range(2):
        await quotas.reserve("default", 1, 10)
    with pytest.raises(QuotaExceeded, match="3 documents") as refused:
        await quotas.reserve("default", 1, 10)
    assert refused.value.retry_after_s > 0
    with pytest.raises(StorageQuotaExceeded, match="has 60"):
        await quotas.reserve("default", 1, 141)
    await quotas.reserve("acme", 1, 200)
    clock.now_s += 2  # counted again: the files above are no documents
    await quotas.reserve("default", 1, 10)


async def test_uploads_that_come_together_count_each_other() -> None:
    store = SlowStore()
    quotas = keeper(store, documents_in_flight=3)
    outcomes = await asyncio.gather(*(quotas.reserve("acme", 1, 1) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in outcomes if one is not None] == [QuotaExceeded, QuotaExceeded]


async def test_without_quotas_nothing_is_counted() -> None:
    store = MemoryDocumentStore()
    await keeper(store).reserve("acme", 10**12, 10**6)
    keeper(store).check_request("acme")
    assert store.state.usage == {}
