"""Cache of vectors in Redis. Best effort: without Redis the service is slower, but works.

    look_up() of many requests -> one read at a time, for all lookups that wait by then
    put()                      -> a bounded queue -> written in pipelines, after the answers

A breaker stops all requests to a Redis that is down, and pings it until it answers again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingestion import metrics
from ingestion.adapters.redis.progress import DEPENDENCY, open_client, translate
from ingestion.concurrency.supervision import TaskSupervisor
from ingestion.errors import DependencyUnavailable
from ingestion.settings import RedisSettings
from workers.runtime.breaker import Breakers

_TIMEOUT_S: Final = 0.5
_READ_KEYS: Final = 128
"""Most keys of one read, unless a single request has more."""
_WRITE_KEYS: Final = 128
_WRITE_DELAY_S: Final = 0.01
"""Delay before a write, so that more values share a pipeline. No caller waits for writes."""
_WRITE_QUEUE_BYTES: Final = 64 * 1024**2
"""Values that wait to be written. Further values are not cached."""
_LAST_WRITES_S: Final = 2.0

_READ: Final = """
local values = {}
for i, key in ipairs(KEYS) do
    local value = redis.pcall('GETEX', key, 'EX', ARGV[1])
    values[i] = type(value) == 'string' and value
end
return values
"""
"""Read many keys in one command and renew their expiry. A value of another type counts as missing."""

Values = list[bytes | None]


@asynccontextmanager
async def open_cache(settings: RedisSettings, ttl_s: int) -> AsyncIterator[VectorCache]:
    """A cache for the block; waiting values are written at its end. `ttl_s`: a value's expiry, at least 1."""
    client = open_client(settings, _TIMEOUT_S)
    cache = VectorCache(client, ttl_s)
    await cache.connect()
    try:
        async with TaskSupervisor() as tasks:
            tasks.run_forever("cache reader", cache.run_reader)
            tasks.run_forever("cache writer", cache.run_writer)
            yield cache
    finally:
        await cache.stop()
        await client.aclose()


class VectorCache:
    """Batches the lookups of many callers, and writes in the background. Made by `open_cache`."""

    def __init__(self, client: Redis, ttl_s: int) -> None:
        self._client = client
        self._ttl_s = ttl_s
        self._read_script = client.register_script(_READ)
        self._breakers = Breakers({DEPENDENCY: self._ping})
        self._lookups = deque[tuple[Sequence[str], asyncio.Future[Values]]]()
        self._writes = deque[tuple[str, bytes | None]]()
        self._writes_bytes = 0
        self._has_lookups = asyncio.Event()
        self._has_writes = asyncio.Event()

    @property
    def status(self) -> Literal["ok", "down"]:
        return "down" if self._breakers.is_blocking else "ok"

    async def look_up(self, keys: Sequence[str]) -> Values:
        """Return the value of each key, None for a miss. While Redis is down, every key is a miss."""
        if self._breakers.is_blocking:
            return [None] * len(keys)
        found: asyncio.Future[Values] = asyncio.get_running_loop().create_future()
        self._lookups.append((keys, found))
        self._has_lookups.set()
        return await found

    def put(self, key: str, value: bytes) -> None:
        """Queue `value` for writing. Drops it while Redis is down or the queue is full. Does not block."""
        self._write_later(key, value)

    def delete(self, key: str) -> None:
        """Queue a deletion, in order with later `put`s. Does not block."""
        self._write_later(key, None)

    async def connect(self) -> None:
        """Ping Redis, and open the breaker if it is down, before the first lookup."""
        try:
            await self._ping()
        except DependencyUnavailable as error:
            self._breakers.trip(error)

    async def run_reader(self) -> None:
        while True:
            await self._has_lookups.wait()
            await self._read(self._next_lookups())

    async def run_writer(self) -> None:
        while True:
            await self._has_writes.wait()
            await asyncio.sleep(_WRITE_DELAY_S)
            await self._write(self._next_writes())

    async def stop(self) -> None:
        """Answer waiting lookups with misses, and write the waiting values for up to 2 s."""
        while self._lookups:
            _settle(self._next_lookups(), None)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES_S):
                while self._writes:
                    await self._write(self._next_writes())
        await self._breakers.stop()

    def _next_lookups(self) -> list[tuple[Sequence[str], asyncio.Future[Values]]]:
        batch = [self._lookups.popleft()]
        free_keys = _READ_KEYS - len(batch[0][0])
        while self._lookups and len(self._lookups[0][0]) <= free_keys:
            batch.append(self._lookups.popleft())
            free_keys -= len(batch[-1][0])
        if not self._lookups:
            self._has_lookups.clear()
        return batch

    async def _read(self, batch: list[tuple[Sequence[str], asyncio.Future[Values]]]) -> None:
        values: Values | None = None
        try:
            if not self._breakers.is_blocking:
                keys = [key for wanted, _ in batch for key in wanted]
                with metrics.STORE_REQUESTS.labels(DEPENDENCY, "get_vectors").time():
                    values = await self._read_script(keys=keys, args=[self._ttl_s])
        except Exception as error:  # noqa: BLE001 - the breaker records it; the service works without Redis
            self._trip(error)
        finally:
            _settle(batch, values)

    def _write_later(self, key: str, value: bytes | None) -> None:
        if self._breakers.is_blocking:
            return
        size = len(value or b"")
        if self._writes_bytes + size > _WRITE_QUEUE_BYTES:
            metrics.CACHE_DROPPED.inc()
            return
        self._writes.append((key, value))
        self._writes_bytes += size
        self._has_writes.set()

    def _next_writes(self) -> list[tuple[str, bytes | None]]:
        batch = [self._writes.popleft() for _ in range(min(_WRITE_KEYS, len(self._writes)))]
        self._writes_bytes -= sum(len(value or b"") for _, value in batch)
        if not self._writes:
            self._has_writes.clear()
        return batch

    async def _write(self, batch: list[tuple[str, bytes | None]]) -> None:
        """A value that Redis refuses, for example when full, is not cached and does not open the breaker."""
        if self._breakers.is_blocking:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, value in batch:
                    if value is None:
                        pipeline.delete(key)
                    else:
                        pipeline.set(key, value, ex=self._ttl_s)
                with metrics.STORE_REQUESTS.labels(DEPENDENCY, "put_vectors").time():
                    results = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - the breaker records it; the service works without Redis
            self._trip(error)
        else:
            metrics.CACHE_DROPPED.inc(sum(isinstance(result, Exception) for result in results))

    async def _ping(self) -> None:
        try:
            await self._client.ping()
        except Exception as error:
            raise _unavailable(error) from error

    def _trip(self, error: Exception) -> None:
        self._breakers.trip(_unavailable(error))


def _unavailable(error: Exception) -> DependencyUnavailable:
    """Every error of Redis counts as an outage for the breaker."""
    translated = translate(error) if isinstance(error, RedisError) else error
    if isinstance(translated, DependencyUnavailable):
        return translated
    return DependencyUnavailable(DEPENDENCY, str(translated))


def _settle(batch: Sequence[tuple[Sequence[str], asyncio.Future[Values]]], values: Values | None) -> None:
    """Give each caller its part of `values`; None means that all keys missed."""
    start = 0
    for keys, found in batch:
        if not found.done():  # its caller was cancelled
            found.set_result([None] * len(keys) if values is None else values[start : start + len(keys)])
        start += len(keys)
