"""The API key, problem documents, and the routes for operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis.progress import RedisProgress
from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.search import Searcher
from ingestion.settings import Settings
from tests.contract.api.helpers import DEADLINE_S, KEY, assert_problem, client_of, upload
from tests.support.uploads import make_upload


@pytest.mark.parametrize(
    "key", [None, "", "wrong", KEY + "x", "schlüssel"], ids=["none", "empty", "wrong", "longer", "other"]
)
async def test_a_request_without_the_key_is_401(app: FastAPI, collection: str, key: str | None) -> None:
    async with client_of(app, key) as stranger:
        for answer in (
            await stranger.get("/documents"),
            await stranger.delete(f"/collections/{collection}"),
            await upload(stranger, collection, ("a.pdf", make_upload(1))),
        ):
            assert_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_address_that_sends_wrong_keys_is_limited(services: Services, searcher: Searcher) -> None:
    services.settings.api = services.settings.api.model_copy(update={"login_failures_per_minute": 2})
    app = create_app(services, searcher)
    async with client_of(app, "wrong") as stranger:
        for _ in range(2):
            assert_problem(await stranger.get("/documents"), 401, "unauthorized")
        answer = await stranger.get("/documents")
        assert_problem(answer, 429, "too_many_requests")
        assert 0 < int(answer.headers["retry-after"]) <= 60


async def test_metrics_are_for_operators(services: Services, searcher: Searcher, app: FastAPI) -> None:
    async with client_of(app, key=None) as anybody:
        proxied = await anybody.get("http://api/metrics", headers={"X-Forwarded-For": "10.0.0.1"})
        assert_problem(proxied, 401, "unauthorized")
    transport = httpx.ASGITransport(app, client=("8.8.8.8", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as stranger:
        assert_problem(await stranger.get("/metrics"), 401, "unauthorized")
    services.settings.api = services.settings.api.model_copy(update={"metrics_key": SecretStr("scrape")})
    for key, status in ((None, 401), (KEY, 401), ("scrape", 200)):
        async with client_of(create_app(services, searcher), key) as client:
            assert (await client.get("http://api/metrics")).status_code == status


@pytest.mark.parametrize("key", ["", "  "])
async def test_create_app_needs_a_key(services: Services, searcher: Searcher, key: str) -> None:
    services.settings.api = services.settings.api.model_copy(update={"api_key": SecretStr(key)})
    with pytest.raises(ValueError, match="PAGEMILL_API_KEY"):
        create_app(services, searcher)


async def test_unknown_addresses_and_methods_are_problems(bare_client: httpx.AsyncClient) -> None:
    assert_problem(await bare_client.get("/nowhere"), 404, "not_found")
    answer = await bare_client.put("/documents")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


async def test_a_dependency_that_is_down_is_named_without_its_address(
    settings: Settings, services: Services, searcher: Searcher
) -> None:
    services.settings.api = services.settings.api.model_copy(update={"store_budget_s": 0.5})
    secret_address = settings.mongo.model_copy(
        update={"mongo_uri": "mongodb://user:secret@127.0.0.1:1/?serverSelectionTimeoutMS=200"}
    )
    async with (
        MongoDocumentStore(secret_address) as documents,
        client_of(create_app(replace(services, documents=documents), searcher)) as client,
    ):
        answer = await client.get("/documents")
    assert_problem(answer, 503, "dependency_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "127.0.0.1" not in answer.text


async def test_an_internal_error_does_not_show_its_message(app: FastAPI, bare_client: httpx.AsyncClient) -> None:
    async def broken() -> None:
        raise KeyError("an inner secret")

    app.add_api_route("/broken", broken)
    answer = await bare_client.get("http://api/broken")
    assert_problem(answer, 500, "internal")
    assert "secret" not in answer.text


async def test_operator_routes_and_pages_need_no_key(app: FastAPI, client: httpx.AsyncClient) -> None:
    async with client_of(app, key=None) as anybody:
        assert (await anybody.get("http://api/health")).json() == {"status": "alive"}
        async with asyncio.timeout(DEADLINE_S):  # the first ping may have to load a client library
            while (ready := await anybody.get("http://api/ready")).status_code != 200:
                assert_problem(ready, 503, "not_ready")
        assert ready.json() == {
            "status": "ready",
            "dependencies": {name: {"up": True} for name in ("kafka", "milvus", "mongodb", "redis", "s3")},
        }
        assert "ingestion_refused_total" in (await anybody.get("http://api/metrics")).text
        assert "/api/v1/documents" in (await anybody.get("http://api/openapi.json")).json()["paths"]
        assert_problem(await anybody.get("http://api/redoc"), 404, "not_found")
        for path, title in (("", "Pagemill"), ("docs", "Pagemill API")):
            page = await anybody.get(f"http://api/{path}")
            assert page.headers["content-type"].startswith("text/html")
            assert f"<title>{title}</title>" in page.text


async def test_readiness_names_the_dependency_that_is_down_and_since_when(
    client: httpx.AsyncClient, services: Services, searcher: Searcher
) -> None:
    async with (
        RedisProgress(services.settings.redis.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as down,
        client_of(create_app(replace(services, progress=down), searcher)) as without_redis,
    ):
        first = assert_problem(await without_redis.get("http://api/ready"), 503, "not_ready")
        second = assert_problem(await without_redis.get("http://api/ready"), 503, "not_ready")
    assert first["dependencies"]["redis"]["up"] is False
    assert first["dependencies"]["mongodb"] == {"up": True}
    assert "redis" in first["detail"] and "mongodb" not in first["detail"]
    assert second["dependencies"]["redis"]["since"] == first["dependencies"]["redis"]["since"]


@pytest.mark.parametrize(
    ("key", "status", "most_bytes"),
    [(KEY, 413, 1_000_000), (None, 401, 0), ("wrong", 401, 0)],
    ids=["right", "none", "wrong"],
)
async def test_an_unwanted_body_is_not_read(
    app: FastAPI, collection: str, key: str | None, status: int, most_bytes: int
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 65_536
            yield b'{"query": "' + b"a" * 65_536

    headers = {"content-type": "application/json"}
    async with client_of(app, key) as client:
        answer = await client.post(f"/collections/{collection}/search", content=endless(), headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert sent <= most_bytes
