"""How often, and for how long, servers that do not answer are asked: by the client libraries once, in all within a
budget. Counted at the servers; the deadlines are only there to end a test that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import stamina
from pydantic import SecretStr

from ingestion.adapters.milvus.connection import Budgeted, try_once
from ingestion.adapters.minio import MinioBlobStore
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis import progress as redis_adapter
from ingestion.adapters.redis.progress import RedisProgress
from ingestion.concurrency.deadline import budget
from ingestion.errors import DependencyUnavailable
from ingestion.retrying import ATTEMPTS, retrying
from ingestion.settings import MilvusSettings, MongoSettings, RedisSettings, S3Settings
from tests.support.silent import cuts_off, fake_server, says_nothing, trickles
from tests.support.waiting import wait_for

DEADLINE_S = 60.0
BUDGET_S = 0.5


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    """As many tries as there are, without the pauses between them."""
    stamina.set_testing(True, attempts=ATTEMPTS)
    yield
    stamina.set_testing(False)


def s3(address: str) -> MinioBlobStore:
    return MinioBlobStore(S3Settings(s3_endpoint=address, s3_access_key="k", s3_secret_key=SecretStr("secret")))


async def in_vain(request: Any, *arguments: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(DependencyUnavailable):
            await request(*arguments)


async def test_a_silent_object_store_is_asked_once_within_the_budget(tmp_path: Path) -> None:
    source = tmp_path / "a.pdf"
    source.write_bytes(b"%PDF-")
    with fake_server(says_nothing) as server:
        async with s3(server.address) as blobs:
            requests = [
                (blobs.get, "k"),
                (blobs.put, "k", b"x", "text/plain"),
                (blobs.put_file, "k", source, "text/plain"),
                (blobs.fetch_file, "k", tmp_path / "b.pdf"),
                (blobs.list_keys, "k"),
                (blobs.delete, ["k"]),
                (blobs.ping,),
            ]
            for number, request in enumerate(requests, 1):
                with budget(BUDGET_S):
                    await in_vain(retrying, *request)
                assert server.requests == number
            await wait_for(lambda: not server.open)  # no thread is left that waits for an answer


async def test_an_object_store_that_cuts_off_is_asked_by_one_layer_only() -> None:
    with fake_server(cuts_off) as server:
        async with s3(server.address) as blobs:
            await in_vain(blobs.get, "k")
            assert server.requests == 1
            await in_vain(retrying, blobs.get, "k")
            assert server.requests == 1 + ATTEMPTS


async def test_an_object_that_trickles_is_given_up_with_the_budget(tmp_path: Path) -> None:
    with fake_server(trickles) as server:
        async with s3(server.address) as blobs:
            for request in ((blobs.get, "k"), (blobs.fetch_file, "k", tmp_path / "b.pdf")):
                with budget(BUDGET_S):
                    await in_vain(*request)
            await wait_for(lambda: not server.open)


async def test_a_silent_database_delays_no_caller_beyond_the_budget() -> None:
    with fake_server(says_nothing) as server:
        settings = MongoSettings(mongo_uri=f"mongodb://{server.address}/?directConnection=true")
        async with MongoDocumentStore(settings) as documents:
            with budget(BUDGET_S):
                await in_vain(documents.get, "d")
                await in_vain(documents.list)
                asked = server.connections
                await in_vain(documents.get, "d")  # no time is left
            assert server.connections == asked


async def test_a_silent_redis_is_asked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_adapter, "_TIMEOUT_S", 0.1)
    with fake_server(says_nothing) as server:
        async with RedisProgress(RedisSettings(redis_url=f"redis://{server.address}/0")) as progress:
            for _ in range(50):
                await progress.report("d", status="queued", message="", processed=0, total=1)
            assert server.requests == 1


def test_milvuss_client_tries_once() -> None:
    from pymilvus.decorators import retry_on_rpc_failure

    tries = 0

    class Down(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return "down"

    @retry_on_rpc_failure()
    def request(client: object, **options: Any) -> None:
        nonlocal tries
        tries += 1
        raise Down

    try_once()
    with pytest.raises(grpc.RpcError):
        request(None, timeout=DEADLINE_S)
    assert tries == 1


def test_milvuss_requests_end_with_the_budget() -> None:
    settings = Budgeted(MilvusSettings(milvus_timeout_s=60))
    assert (settings.milvus_timeout_s, settings.hnsw_m) == (60, 32)
    with budget(10):
        assert 9 < settings.milvus_timeout_s <= 10
    with budget(0), pytest.raises(DependencyUnavailable, match="milvus"):
        assert settings.milvus_timeout_s
