"""The API over real services, called in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from ingestion.api.app import create_app
from ingestion.bootstrap import Services, open_services
from ingestion.prepare import prepare
from ingestion.search import Searcher
from ingestion.settings import Settings
from tests.contract.api.helpers import KEY, client_of
from tests.support.embedders import WordEmbedder


@pytest.fixture
async def services(settings: Settings, tmp_path: Path, collection: str) -> AsyncIterator[Services]:
    """No connection is open yet. Kafka topics and MongoDB indexes do not exist yet."""
    spool = tmp_path / "spool"
    spool.mkdir()
    limits = {"max_pages": 4, "max_file_bytes": 100_000, "max_files_per_upload": 8, "login_failures_per_minute": 0}
    settings.api = settings.api.model_copy(update={"api_key": SecretStr(KEY), "spool_dir": spool, **limits})
    async with open_services(settings) as services:
        yield services
    assert list(spool.iterdir()) == []


@pytest.fixture
def searcher(services: Services) -> Searcher:
    return Searcher(
        embedder=WordEmbedder(),
        vectors=services.vectors,
        records=services.documents,
        blobs=services.blobs,
        settings=services.settings.search,
        cache=services.query_cache,
    )


@pytest.fixture
def app(services: Services, searcher: Searcher) -> FastAPI:
    return create_app(services, searcher)


@pytest.fixture
async def bare_client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client for requests that reach no store."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def client(
    bare_client: httpx.AsyncClient, services: Services, collection: str
) -> AsyncIterator[httpx.AsyncClient]:
    await prepare(services.settings)
    yield bare_client
    await services.vectors.drop(collection)
