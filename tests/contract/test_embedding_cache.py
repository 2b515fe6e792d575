"""The embedding service with Redis: the cache returns input that was embedded before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from redis.asyncio import Redis

from ingestion.model import Vectors
from ingestion.settings import RedisSettings, ServingSettings, Settings
from tests.chaos.proxy import REFUSED, SILENT, Fault, Proxies
from tests.support.serving import Client, HeldEmbedder, data_uri, eventually, picture, serving
from workers.embedding.serving.cache import VectorCache, open_cache
from workers.embedding.serving.cache_format import CacheKeys, to_cache_value

TTL_S = 1000
DIM = 16


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(settings.redis.redis_url) as redis:
        yield redis
        await redis.flushdb()


@pytest.fixture
async def cache(settings: Settings, redis: Redis) -> AsyncIterator[VectorCache]:
    async with open_cache(settings.redis, TTL_S) as cache:
        yield cache


@asynccontextmanager
async def cached_service(
    embedder: HeldEmbedder, redis_settings: RedisSettings, **options: Any
) -> AsyncIterator[Client]:
    async with open_cache(redis_settings, TTL_S) as cache, serving(embedder, cache=cache, **options) as client:
        yield client


async def written(redis: Redis, count: int = 1) -> list[bytes]:
    """The keys in Redis, once there are `count`."""
    async with asyncio.timeout(10):
        while len(keys := await redis.keys("*")) < count:
            await asyncio.sleep(0.01)
    assert len(keys) == count
    return keys


async def test_repeated_input_comes_from_the_redis_cache(settings: Settings, redis: Redis) -> None:
    embedder = HeldEmbedder()
    async with cached_service(embedder, settings.redis) as client:
        (computed,) = await client.embed("red pump")
        (key,) = await written(redis)
        again, other = await client.embed(["red pump", "valve"])
        await written(redis, 2)
        lane = (await client.health())["lanes"]["text"]
    assert np.array_equal(again, computed)
    assert len(other) == 1
    assert embedder.seen == {"red pump": 1, "valve": 1}
    assert (lane["cache_hits"], lane["cache_misses"], lane["admitted"]) == (1, 2, 2)
    assert key.decode() == CacheKeys(embedder.fingerprint).key("text", "query", "none", b"red pump")
    assert key.decode().startswith(f"emb:{embedder.fingerprint}:n1:")
    assert await redis.get(key) == to_cache_value((await embedder.embed_queries(["red pump"]))[0])


async def test_each_input_type_pooling_and_model_has_its_own_cache_entry(settings: Settings, redis: Redis) -> None:
    image = data_uri(picture(40, 30))
    async with cached_service(HeldEmbedder(), settings.redis) as client:
        for input_type in ("query", "document"):
            for pooling in ("none", "mean"):
                await client.embed("red pump", input_type=input_type, pooling=pooling)
        await written(redis, 4)
    async with cached_service(HeldEmbedder(wants_pixels=True), settings.redis) as client:
        await client.embed(image, modality="image")
        await written(redis, 5)


async def test_a_hit_touches_neither_model_nor_lane(settings: Settings, redis: Redis) -> None:
    embedder = HeldEmbedder()
    async with cached_service(embedder, settings.redis, settings=ServingSettings(embed_text_limit_tokens=1)) as client:
        (computed,) = await client.embed("pump")
        await written(redis)
        embedder.hold()
        blocking = asyncio.create_task(client.post("valve"))
        await eventually(lambda: embedder.waiting == 1)
        assert (await client.post("gasket")).status_code == 429
        (hit,) = await client.embed("pump")
        embedder.let_go()
        await blocking
    assert np.array_equal(hit, computed)
    assert embedder.seen["pump"] == 1


async def test_a_hit_is_answered_when_the_model_is_lost(settings: Settings, redis: Redis) -> None:
    embedder = HeldEmbedder()
    async with cached_service(embedder, settings.redis) as client:
        await client.embed("pump")
        await written(redis)
        embedder.failure = RuntimeError("device lost")
        assert (await client.post("valve")).status_code == 503
        assert len(await client.embed("pump")) == 1


async def test_an_image_that_is_known_is_not_decoded(settings: Settings, redis: Redis) -> None:
    embedder = HeldEmbedder(wants_pixels=True)
    async with cached_service(embedder, settings.redis) as client:
        (computed,) = await client.embed(data_uri(picture(40, 30)), modality="image")
        await written(redis)
        (hit,) = await client.embed(data_uri(picture(40, 30)), modality="image")
    assert np.array_equal(hit, computed)
    assert embedder.seen == {"40x30": 1}


@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"x",
        b"\x00" * (2 * DIM - 1),
        b"\x00" * (2 * DIM + 2),
        b"\x7f\xc0" * DIM,
        b"\x7f\x80" + b"\x00\x00" * (DIM - 1),
        b"\xff\x80" * DIM,
    ],
    ids=["empty", "one byte", "too short", "not whole rows", "NaN", "one infinity", "negative infinities"],
)
async def test_a_value_that_is_not_ours_is_replaced(settings: Settings, redis: Redis, poison: bytes) -> None:
    embedder = HeldEmbedder()
    async with cached_service(embedder, settings.redis) as client:
        (good,) = await client.embed("pump")
        (key,) = await written(redis)
        await redis.set(key, poison)
        (found,) = await client.embed("pump")
        lane = (await client.health())["lanes"]["text"]
    assert np.array_equal(found, good)
    assert embedder.seen["pump"] == 2
    assert (lane["cache_hits"], lane["cache_misses"]) == (0, 2)
    assert await redis.get(key) == to_cache_value(good)  # leaving the service has written what was waiting


async def test_a_value_that_is_not_ours_is_deleted_even_if_nothing_replaces_it(
    settings: Settings, redis: Redis
) -> None:
    embedder = HeldEmbedder()
    async with cached_service(embedder, settings.redis) as client:
        await client.embed("pump")
        (key,) = await written(redis)
        await redis.set(key, b"poison")
        embedder.failure = RuntimeError("device lost")
        assert (await client.post("pump")).status_code == 503
        async with asyncio.timeout(10):
            while await redis.exists(key):
                await asyncio.sleep(0.01)


async def test_large_values_are_checked_and_replaced_like_small_ones(settings: Settings, redis: Redis) -> None:
    class Verbose(HeldEmbedder):
        def _embed(self, text: str) -> Vectors:
            return np.tile(self._word(text), (2000, 1))

    embedder = Verbose()
    texts = [f"pump {number}" for number in range(10)]  # 64 KB of vectors each
    async with cached_service(embedder, settings.redis) as client:
        computed = await client.embed(texts)
        keys = await written(redis, len(texts))
        poisoned = await redis.get(keys[0])
        await redis.set(keys[0], poisoned[:-1])
        found = await client.embed(texts)
        lane = (await client.health())["lanes"]["text"]
        async with asyncio.timeout(10):
            while await redis.get(keys[0]) != poisoned:
                await asyncio.sleep(0.01)
    assert all(np.array_equal(one, other) for one, other in zip(computed, found, strict=True))
    assert (lane["cache_hits"], lane["cache_misses"]) == (9, 11)


async def test_a_key_that_holds_something_else_is_a_miss(settings: Settings, redis: Redis) -> None:
    embedder = HeldEmbedder()
    async with cached_service(embedder, settings.redis) as client:
        await redis.rpush(CacheKeys(embedder.fingerprint).key("text", "query", "none", b"pump"), "a", "list")
        pump, valve = await client.embed(["pump", "valve"])
        assert (await client.health())["cache"] == "ok"
    assert (len(pump), len(valve)) == (1, 1)


async def test_vectors_expire_and_a_read_puts_that_off(cache: VectorCache, redis: Redis) -> None:
    cache.put("emb:a", b"value")
    await written(redis)
    assert TTL_S - 60 < await redis.ttl("emb:a") <= TTL_S
    await redis.expire("emb:a", 10)
    assert await cache.look_up(["emb:a", "emb:b"]) == [b"value", None]
    assert await redis.ttl("emb:a") > 10


async def test_callers_at_the_same_time_share_reads_and_writes(cache: VectorCache, redis: Redis) -> None:
    keys = [f"emb:{number}" for number in range(100)]
    for key in keys:
        cache.put(key, key.encode())
    await written(redis, len(keys))
    before = await redis.info("commandstats")
    found = await asyncio.gather(*(cache.look_up([key]) for key in keys))
    after = await redis.info("commandstats")
    assert found == [[key.encode()] for key in keys]
    assert _calls(after, "evalsha") - _calls(before, "evalsha") <= 3 * 2  # others use this server too


async def test_a_caller_that_leaves_does_not_disturb_others(cache: VectorCache, redis: Redis) -> None:
    cache.put("emb:a", b"value")
    await written(redis)
    leaving = asyncio.create_task(cache.look_up(["emb:a"]))
    staying = asyncio.create_task(cache.look_up(["emb:b", "emb:a"]))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == [None, b"value"]


async def test_closing_the_cache_writes_the_waiting_entries(settings: Settings, redis: Redis) -> None:
    async with open_cache(settings.redis, TTL_S) as cache:
        for number in range(1000):
            cache.put(f"emb:{number}", b"value")
    assert await redis.dbsize() == 1000


async def test_the_queue_of_waiting_cache_entries_is_bounded(
    cache: VectorCache, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.embedding.serving.cache._WRITE_QUEUE_BYTES", 10)
    for key in ("emb:a", "emb:b", "emb:c"):
        cache.put(key, b"value")
    await written(redis, 2)


async def test_without_redis_the_service_works_and_says_so() -> None:
    nowhere = RedisSettings(redis_url="redis://127.0.0.1:1/0")
    async with cached_service(HeldEmbedder(), nowhere) as client:
        assert (await client.health())["cache"] == "down"
        assert len(await client.embed("pump")) == 1


@pytest.mark.parametrize("fault", [REFUSED, SILENT], ids=["refuses", "says nothing"])
async def test_an_outage_of_redis_costs_speed_only_and_ends_by_itself(
    settings: Settings, redis: Redis, fault: Fault
) -> None:
    embedder = HeldEmbedder()
    address = urlsplit(settings.redis.redis_url)
    with Proxies() as proxies:
        proxy = proxies.to(f"{address.hostname}:{address.port}")
        behind = RedisSettings(redis_url=f"redis://127.0.0.1:{proxy.port}{address.path}")
        async with cached_service(embedder, behind) as client:
            (before,) = await client.embed("pump")
            await written(redis)
            with proxy.broken(fault):
                (during,) = await client.embed("pump")
                assert (await client.health())["cache"] == "down"
                started = asyncio.get_running_loop().time()
                for _ in range(5):
                    await client.embed("pump")
                assert asyncio.get_running_loop().time() - started < 0.5 * 5  # none of them waited for Redis
            async with asyncio.timeout(20):
                while (await client.health())["cache"] == "down":
                    await asyncio.sleep(0.05)
            calls = embedder.seen["pump"]
            await client.embed("pump")
    assert np.array_equal(before, during)
    assert embedder.seen["pump"] == calls == 7


def _calls(info: dict[str, Any], command: str) -> int:
    return int(info.get(f"cmdstat_{command}", {"calls": 0})["calls"])
