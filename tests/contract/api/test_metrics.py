"""The metrics of the API at /metrics."""

from __future__ import annotations

from dataclasses import replace

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.search import Searcher
from ingestion.settings import Settings
from tests.contract.api.helpers import client_of


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
