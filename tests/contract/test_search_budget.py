"""A search ends with its budget of time, whichever server does not answer. The servers' own limits are hours here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, cast

import numpy as np
import pytest
from pydantic import SecretStr

from ingestion.adapters.embedding.services import EmbeddersByFingerprint
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.adapters.minio import MinioBlobStore
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis import query_cache as query_cache_adapter
from ingestion.adapters.redis.query_cache import RedisQueryCache
from ingestion.catalogue.generations import Binding, Generation
from ingestion.concurrency.deadline import budget
from ingestion.errors import DependencyUnavailable
from ingestion.model import Vectors
from ingestion.ports import Embedder, Neighbours, Searchable
from ingestion.search import Searcher
from ingestion.search.byte_budget import ByteBudget
from ingestion.settings import (
    EmbedderSettings,
    MilvusSettings,
    MongoSettings,
    RedisSettings,
    S3Settings,
    SearchSettings,
)
from ingestion.vectors.blob import encode_blob
from tests.support.documents import document
from tests.support.nearest import neighbours
from tests.support.one_document import RecordsOfOne
from tests.support.silent import FakeServer, fake_server, says_nothing

DEADLINE_S = 60.0
HOURS_S = 36_000.0
BUDGET_S = 0.5
DIM = 4
KEPT = document()


class Sound(RecordsOfOne):
    """Every server, answering at once, with one page."""

    fingerprint = "f"

    def __init__(self) -> None:
        super().__init__(KEPT)

    async def for_fingerprint(self, fingerprint: str) -> Embedder:
        return cast(Embedder, self)

    async def embed_queries(self, queries: list[str]) -> list[Vectors]:
        return [np.ones((3, DIM), np.float32) for _ in queries]

    async def searchable(self, collection: str) -> Searchable:
        return Searchable(await self.binding(collection), "1")

    async def binding(self, collection: str) -> Binding:
        return Binding(collection, Generation(1, self.fingerprint, DIM))

    async def search(self, index: str, query: Vectors, limit: int, **options: Any) -> Neighbours:
        return neighbours([[(KEPT.first_page_key, 0.5)] for _ in query])

    async def get_many(self, keys: list[str]) -> list[bytes]:
        return [encode_blob(np.ones((2, DIM), np.float32)) for _ in keys]

    async def presign(self, key: str, expires_s: int) -> str:
        return f"http://{key}"


def searcher(**parts: Any) -> Searcher:
    sound = Sound()
    names = ("embedder", "vectors", "records", "blobs")
    return Searcher(
        **{name: cast(Any, sound) for name in names} | parts,
        settings=SearchSettings(search_budget_s=BUDGET_S, search_ann_requests=1),
    )


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(says_nothing) as server:
        yield server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def silent_embedder(server: FakeServer, stack: AsyncExitStack) -> dict[str, Any]:
    own = EmbedderSettings(
        embedder_url=f"http://{server.address}", embedder_timeout_s=HOURS_S, embedder_patience_s=HOURS_S
    )
    return {"embedder": await stack.enter_async_context(EmbeddersByFingerprint(own))}


async def silent_milvus(server: FakeServer, stack: AsyncExitStack) -> dict[str, Any]:
    own = MilvusSettings(milvus_uri=f"http://{server.address}", milvus_timeout_s=HOURS_S)
    return {"vectors": await stack.enter_async_context(MilvusVectorStore(own))}


async def silent_mongodb(server: FakeServer, stack: AsyncExitStack) -> dict[str, Any]:
    own = MongoSettings(mongo_uri=f"mongodb://{server.address}/?directConnection=true")
    return {"records": await stack.enter_async_context(MongoDocumentStore(own))}


async def silent_s3(server: FakeServer, stack: AsyncExitStack) -> dict[str, Any]:
    own = S3Settings(s3_endpoint=server.address, s3_access_key="k", s3_secret_key=SecretStr("s"))
    return {"blobs": await stack.enter_async_context(MinioBlobStore(own))}


@pytest.mark.parametrize("silent", [silent_embedder, silent_milvus, silent_mongodb, silent_s3])
async def test_every_search_ends_whichever_server_says_nothing(
    silent: Any, server: FakeServer, stack: AsyncExitStack
) -> None:
    searches = searcher(**await silent(server, stack))
    async with asyncio.timeout(DEADLINE_S):
        # More than run at once: the searches that wait for their turn end too.
        ended = await asyncio.gather(
            *(searches.search("c", f"query {number}", 1) for number in range(12)), return_exceptions=True
        )
    assert [type(one) for one in ended] == [DependencyUnavailable] * 12
    dependency = silent.__name__.removeprefix("silent_")
    assert {one.dependency for one in ended if isinstance(one, DependencyUnavailable)} == {dependency}


async def test_a_silent_redis_costs_a_search_nothing_but_time(
    server: FakeServer, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cache_adapter, "_TIMEOUT_S", HOURS_S)
    cache = await stack.enter_async_context(RedisQueryCache(RedisSettings(redis_url=f"redis://{server.address}/0")))
    async with asyncio.timeout(DEADLINE_S):
        with budget(BUDGET_S):
            assert await cache.get("k") is None
            await cache.put("k", b"v", 60)
    assert server.requests <= 1


async def test_a_shared_request_has_the_time_of_the_caller_that_waits_longest() -> None:
    asked, answering = asyncio.Event(), asyncio.Event()

    class Slow(Sound):
        async def search(self, index: str, query: Vectors, limit: int, **options: Any) -> Neighbours:
            asked.set()
            await answering.wait()
            return await super().search(index, query, limit, **options)

    searches = searcher(vectors=Slow())
    impatient = asyncio.create_task(searches.search("c", "one", 1))
    await asked.wait()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(DependencyUnavailable):
            await impatient
        answering.set()
        assert len(await searches.search("c", "two", 1)) == 1, "the request of a caller that left holds no place"


async def test_waiting_for_bytes_ends_with_the_budget_and_keeps_none() -> None:
    limiter = ByteBudget(10)
    async with asyncio.timeout(DEADLINE_S), limiter.reserve(10):
        with budget(BUDGET_S), pytest.raises(DependencyUnavailable):
            async with limiter.reserve(5):
                raise AssertionError("there was no room")
        waiting = asyncio.ensure_future(_reserved(limiter))
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    assert limiter.reserved_bytes == 0


async def _reserved(limiter: ByteBudget) -> None:
    async with limiter.reserve(5):
        pass
