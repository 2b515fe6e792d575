"""The gauges of the whole installation, which the janitor measures, on real stores."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import REGISTRY

from ingestion.bootstrap import Services
from tests.contract.api.helpers import fail, make_ready, uploaded
from workers import installation_gauges
from workers.installation_gauges import OTHER, InstallationGauges, Schedule


def gauges_of(services: Services, *, every_s: float = 0.0) -> InstallationGauges:
    schedules = {"documents_due": Schedule(every_s), "rows_due": Schedule(every_s)}
    return InstallationGauges(
        services.documents, services.documents, services.vectors, services.documents, **schedules
    )


def rows_of(collection: str) -> float | None:
    return REGISTRY.get_sample_value("milvus_collection_entities", {"collection": collection})


def documents_in(state: str) -> float | None:
    return REGISTRY.get_sample_value("ingestion_documents", {"state": state})


@pytest.fixture(autouse=True)
def unlimited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation_gauges, "MAX_TIME_SHARE", float("inf"))


async def test_the_rows_of_a_collection_are_shown_until_it_is_deleted(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    gauges = gauges_of(services)
    await gauges.round()
    assert rows_of(collection) is None
    await make_ready(services, await uploaded(client, collection), "a lazy dog", "the quick brown fox")
    await gauges.round()
    assert rows_of(collection) == await services.vectors.count(collection) > 0
    assert (await client.delete(f"/collections/{collection}")).is_success
    await gauges.round()
    assert rows_of(collection) is None


async def test_rows_are_not_counted_before_they_are_due(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    gauges = gauges_of(services, every_s=3600.0)
    await make_ready(services, await uploaded(client, collection, "a.pdf"), "a lazy dog")
    await gauges.round()
    rows = rows_of(collection)
    assert rows
    await make_ready(services, await uploaded(client, collection, "b.pdf"), "the quick brown fox")
    await gauges.round()
    assert rows_of(collection) == rows


async def test_the_smaller_collections_share_one_series(
    client: httpx.AsyncClient, services: Services, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation_gauges, "MAX_COLLECTIONS", 1)
    small = f"{collection}_small"
    await make_ready(services, await uploaded(client, collection, "a.pdf"), "a lazy dog", "the quick brown fox")
    await make_ready(services, await uploaded(client, small, "b.pdf"), "fox")
    try:
        await gauges_of(services).round()
        assert rows_of(collection) == await services.vectors.count(collection)
        assert rows_of(small) is None
        assert rows_of(OTHER) == await services.vectors.count(small) > 0
    finally:
        await services.vectors.drop(small)


async def test_documents_are_counted_by_state_and_the_oldest_unfinished_has_an_age(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    gauges = gauges_of(services)
    await gauges.round()
    assert documents_in("ready") == documents_in("failed") == documents_in("queued") == 0
    assert REGISTRY.get_sample_value("ingestion_oldest_document_age_seconds", {"state": "queued"}) == 0
    await make_ready(services, await uploaded(client, collection, "a.pdf"), "a lazy dog")
    await fail(services, await uploaded(client, collection, "b.pdf"))
    await uploaded(client, collection, "c.pdf")
    await gauges.round()
    assert documents_in("ready") == documents_in("failed") == documents_in("queued") == 1
    age_s = REGISTRY.get_sample_value("ingestion_oldest_document_age_seconds", {"state": "queued"})
    assert age_s is not None
    assert 0 < age_s < 60
