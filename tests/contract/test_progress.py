"""Progress in Redis, and behaviour without Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
from redis.asyncio import Redis

from ingestion.adapters.redis.progress import TOTALS_KEY, RedisProgress, task_key
from ingestion.errors import DependencyUnavailable
from ingestion.settings import RedisSettings, Settings
from tests.port_contracts.progress import ProgressContract


@pytest.fixture
async def progress(settings: Settings) -> AsyncIterator[RedisProgress]:
    async with RedisProgress(settings.redis) as progress:
        yield progress


class TestRedisProgress(ProgressContract): ...


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(settings.redis.redis_url, decode_responses=True) as redis:
        await redis.flushdb()
        yield redis
        await redis.flushdb()


async def report(progress: RedisProgress, document_id: str = "d", processed: int = 3) -> None:
    await progress.report(document_id, status="processing", message="half ½", processed=processed, total=6)


async def test_a_report_is_read_back(progress: RedisProgress, redis: Redis) -> None:
    await report(progress, processed=1)
    await report(progress, processed=3)
    expected = {"status": "processing", "message": "half ½", "processed": "3", "total": "6"}
    assert await progress.read("d") == expected
    assert await redis.hgetall("task:d") == expected


async def test_a_report_expires(progress: RedisProgress, redis: Redis, settings: Settings) -> None:
    await report(progress)
    remaining_s = await redis.ttl(task_key("d"))
    assert settings.redis.redis_task_ttl_s - 60 < remaining_s <= settings.redis.redis_task_ttl_s


async def test_forgetting_removes_the_report(progress: RedisProgress, redis: Redis) -> None:
    await report(progress)
    await progress.forget("d")
    await progress.forget("d")
    assert await progress.read("d") == {}


async def test_totals_add_up(progress: RedisProgress, redis: Redis) -> None:
    await progress.add(ready=1, pages=12)
    await progress.add(ready=1, failed=1, pages=0)
    assert await redis.hgetall(TOTALS_KEY) == {"ready": "2", "pages": "12", "failed": "1"}


async def test_nothing_to_add_is_no_error(progress: RedisProgress, redis: Redis) -> None:
    await progress.add()
    assert await redis.exists(TOTALS_KEY) == 0


async def test_ping_answers(progress: RedisProgress) -> None:
    await progress.ping()


async def test_an_outage_is_logged_once_and_raises_nothing(unused_tcp_port: int) -> None:
    async with RedisProgress(RedisSettings(redis_url=f"redis://127.0.0.1:{unused_tcp_port}/0")) as progress:
        with structlog.testing.capture_logs() as logs:
            await report(progress)
            assert await progress.read("d") == {}
            await progress.forget("d")
            await progress.add(pages=1)
        assert [entry["event"] for entry in logs] == ["progress is not recorded"]
        with pytest.raises(DependencyUnavailable) as caught:
            await progress.ping()
    assert caught.value.dependency == "redis"


async def test_a_refused_write_is_logged_once_and_its_end_too(progress: RedisProgress, redis: Redis) -> None:
    await redis.set(task_key("d"), "not a hash")
    with structlog.testing.capture_logs() as logs:
        await report(progress)
        await report(progress)
        await redis.delete(task_key("d"))
        await report(progress)
    assert [entry["event"] for entry in logs] == ["progress is not recorded", "progress is recorded again"]
    assert (await progress.read("d"))["processed"] == "3"
