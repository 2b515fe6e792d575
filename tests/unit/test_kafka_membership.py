"""`close_consumer` against the ends that aiokafka's `stop` can have."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaConnectionError

from ingestion.adapters.kafka.membership import close_consumer


class Connections:
    def __init__(self) -> None:
        self.are_closed = False

    async def close(self) -> None:
        self.are_closed = True


class Consumer:
    """`stop` awaits `ending`."""

    def __init__(self, ending: Any) -> None:
        self._ending = ending
        self._client = Connections()

    async def stop(self) -> None:
        await self._ending()


async def close(consumer: Consumer, timeout_s: float = 5.0) -> None:
    await close_consumer(cast("AIOKafkaConsumer", consumer), timeout_s)


async def a_cancelled_fetch() -> None:
    """Does what `Fetcher.close` does with a fetch whose broker is down."""
    fetcher = object.__new__(Fetcher)
    fetcher._fetch_task = asyncio.ensure_future(asyncio.sleep(60))
    fetcher._fetch_waiters = set()
    fetcher._pending_tasks = {asyncio.ensure_future(asyncio.sleep(60))}
    await asyncio.sleep(0)
    await fetcher.close()


async def a_broken_connection() -> None:
    raise KafkaConnectionError


async def no_end() -> None:
    await asyncio.Event().wait()


async def a_programming_error() -> None:
    raise KeyError("unforeseen")


@pytest.mark.parametrize("ending", [a_cancelled_fetch, a_broken_connection, no_end])
async def test_a_stop_that_does_not_end_well_closes_the_connections(ending: Any) -> None:
    consumer = Consumer(ending)
    await close(consumer, timeout_s=0.05)
    assert consumer._client.are_closed


async def test_an_unforeseen_error_is_raised_after_the_connections_are_closed() -> None:
    consumer = Consumer(a_programming_error)
    with pytest.raises(KeyError):
        await close(consumer)
    assert consumer._client.are_closed


async def test_a_cancellation_of_the_caller_remains_one() -> None:
    consumer = Consumer(no_end)
    closing = asyncio.ensure_future(close(consumer))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert consumer._client.are_closed
