"""The metrics of the API at /metrics."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import httpx
import pytest

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.api import entity_counts
from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.search import Searcher
from ingestion.settings import Settings
from tests.contract.api.helpers import client_of, make_ready, uploaded


async def shown_rows(client: httpx.AsyncClient, collection: str) -> float | None:
    answer = await client.get("http://api/metrics")
    assert answer.status_code == 200
    name = f'milvus_collection_entities{{collection="{collection}"}} '
    return next((float(line.removeprefix(name)) for line in answer.text.splitlines() if line.startswith(name)), None)


async def test_the_rows_of_a_collection_are_shown_until_it_is_deleted(
    client: httpx.AsyncClient, services: Services, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity_counts, "INTERVAL_S", 0.0)
    monkeypatch.setattr(entity_counts, "MAX_TIME_SHARE", inf)
    assert await shown_rows(client, collection) is None
    await make_ready(services, await uploaded(client, collection), "a lazy dog", "the quick brown fox")
    assert await shown_rows(client, collection) == await services.vectors.count(collection) > 0
    assert (await client.delete(f"/collections/{collection}")).is_success
    assert await shown_rows(client, collection) is None


async def test_rows_are_not_counted_at_every_scrape(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    await make_ready(services, await uploaded(client, collection, "a.pdf"), "a lazy dog")
    rows = await shown_rows(client, collection)
    await make_ready(services, await uploaded(client, collection, "b.pdf"), "the quick brown fox")
    assert await shown_rows(client, collection) == rows
    await client.delete(f"/collections/{collection}")


async def test_metrics_are_served_while_a_store_is_down(
    settings: Settings, services: Services, searcher: Searcher
) -> None:
    nowhere = settings.mongo.model_copy(update={"mongo_uri": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"})
    async with (
        MongoDocumentStore(nowhere) as documents,
        client_of(create_app(replace(services, documents=documents), searcher)) as client,
    ):
        answer = await client.get("http://api/metrics")
    assert answer.status_code == 200
    assert "ingestion_refused_total" in answer.text
