"""A task that is cancelled ends, also where a library swallows the cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ingestion.adapters.redis.progress import RedisProgress
from ingestion.adapters.redis.query_cache import RedisQueryCache
from ingestion.concurrency.cancellation import swallowed_cancellation_raised
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import DependencyUnavailable
from ingestion.settings import RedisSettings


class SwallowingClient:
    """A client whose requests go on after a cancellation, as those of redis-py that `asyncio.wait_for` waits for."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()

    async def get(self, *args: Any) -> bytes:
        self.is_asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return b"an answer"
        raise AssertionError("nothing sets the event")

    async def hgetall(self, *args: Any) -> dict[str, str]:
        await self.get()
        return {}


def progress(client: SwallowingClient) -> RedisProgress:
    adapter = RedisProgress(RedisSettings())
    adapter._client = client  # type: ignore[assignment]
    return adapter


def query_cache(client: SwallowingClient) -> RedisQueryCache:
    adapter = RedisQueryCache(RedisSettings())
    adapter._client = client  # type: ignore[assignment]
    return adapter


@pytest.mark.parametrize(
    "request_of",
    [
        lambda client: progress(client).read("d"),
        lambda client: progress(client).ping(),
        lambda client: query_cache(client).get("key"),
    ],
    ids=["progress", "ping", "query cache"],
)
async def test_a_cancelled_task_does_not_go_on_after_a_request_to_redis(
    request_of: Callable[[SwallowingClient], Awaitable[Any]],
) -> None:
    client = SwallowingClient()
    task = asyncio.ensure_future(request_of(client))
    await client.is_asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_error_that_comes_with_a_cancellation_does_not_take_its_place() -> None:
    client = SwallowingClient()

    async def failing() -> None:
        with swallowed_cancellation_raised():
            await client.get()
            raise ConnectionError("the connection was closed")

    task = asyncio.create_task(failing())
    await client.is_asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_the_end_of_a_time_limit_around_the_block_is_still_a_timeout() -> None:
    client = SwallowingClient()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            with swallowed_cancellation_raised():
                await client.get()


async def test_a_time_limit_within_the_block_is_no_cancellation() -> None:
    async def limited() -> str:
        with swallowed_cancellation_raised():
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "went on"

    assert await asyncio.create_task(limited()) == "went on"


async def test_an_error_that_comes_with_the_cancellation_of_gathered_work_does_not_take_its_place() -> None:
    begun = asyncio.Event()

    async def failing() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise DependencyUnavailable("s3", "the connection was closed")

    task = asyncio.create_task(gather_or_cancel(failing()))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_error_of_gathered_work_leaves_its_caller_not_cancelled() -> None:
    async def failing() -> None:
        raise DependencyUnavailable("s3", "the connection was closed")

    async def caller() -> int:
        with pytest.raises(DependencyUnavailable):
            await gather_or_cancel(failing(), asyncio.Event().wait())
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert await asyncio.create_task(caller()) == 0


def test_the_block_may_stand_outside_of_a_task() -> None:
    loop = asyncio.new_event_loop()
    entered = SimpleNamespace(done=False)

    def call() -> None:
        with swallowed_cancellation_raised():
            entered.done = True
        loop.stop()

    loop.call_soon(call)
    loop.run_forever()
    loop.close()
    assert entered.done
