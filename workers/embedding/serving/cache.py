"""Vectors that were computed before, in Redis. Best effort: without Redis the service is slower, not broken.

    look_up() of many requests -> one read at a time, of all that wait by then
    put()                      -> a bounded line -> written in pipelines, behind the answers

Nothing is asked of a Redis that is known to be down: a breaker pings it until it answers again.
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
"""CacheKeys of one read at most, unless a single request has more."""
_WRITE_KEYS: Final = 128
_GATHER_S: Final = 0.01
"""Nobody waits for a write, and the more share a pipeline, the less each costs."""
_LINE_BYTES: Final = 64 * 1024**2
"""Values that wait to be written; what comes on top is not cached."""
_LAST_WRITES_S: Final = 2.0

_READ: Final = """
local values = {}
for i, key in ipairs(KEYS) do
    local value = redis.pcall('GETEX', key, 'EX', ARGV[1])
    values[i] = type(value) == 'string' and value
end
return values
"""
"""Many keys in one command, each with its expiry put off. What is no string is none of ours, and counts as missing."""

Values = list[bytes | None]


@asynccontextmanager
async def open_cache(settings: RedisSettings, ttl_s: int) -> AsyncIterator[VectorCache]:
    """A cache that is in use until the block is left; what waits to be written then is written. `ttl_s`: from 1."""
    client = open_client(settings, _TIMEOUT_S)
    cache = VectorCache(client, ttl_s)
    await cache.try_redis()
    try:
        async with TaskSupervisor() as tasks:
            tasks.run_forever("cache reader", cache.read_for_ever)
            tasks.run_forever("cache writer", cache.write_for_ever)
            yield cache
    finally:
        await cache.stop()
        await client.aclose()


class VectorCache:
    """Reads for many callers together, and writes behind their backs. Made by `open_cache`."""

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
        """The value of each key, None where there is none; None for all of them while Redis is down."""
        if self._breakers.is_blocking:
            return [None] * len(keys)
        found: asyncio.Future[Values] = asyncio.get_running_loop().create_future()
        self._lookups.append((keys, found))
        self._has_lookups.set()
        return await found

    def put(self, key: str, value: bytes) -> None:
        """Have `value` written soon, unless Redis is down or too much is waiting already. Does not block."""
        self._write_later(key, value)

    def delete(self, key: str) -> None:
        """Have the value deleted soon, and before one that is put later. Does not block."""
        self._write_later(key, None)

    async def try_redis(self) -> None:
        """Learn whether Redis is up before the first caller does."""
        try:
            await self._ping()
        except DependencyUnavailable as error:
            self._breakers.trip(error)

    async def read_for_ever(self) -> None:
        while True:
            await self._has_lookups.wait()
            await self._read(self._next_lookups())

    async def write_for_ever(self) -> None:
        while True:
            await self._has_writes.wait()
            await asyncio.sleep(_GATHER_S)
            await self._write(self._next_writes())

    async def stop(self) -> None:
        """Whoever still waits has missed; what still waits is written, or as much of it as there is time for."""
        while self._lookups:
            _settle(self._next_lookups(), None)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES_S):
                while self._writes:
                    await self._write(self._next_writes())
        await self._breakers.stop()

    def _next_lookups(self) -> list[tuple[Sequence[str], asyncio.Future[Values]]]:
        batch = [self._lookups.popleft()]
        room = _READ_KEYS - len(batch[0][0])
        while self._lookups and len(self._lookups[0][0]) <= room:
            batch.append(self._lookups.popleft())
            room -= len(batch[-1][0])
        if not self._lookups:
            self._has_lookups.clear()
        return batch

    async def _read(self, batch: list[tuple[Sequence[str], asyncio.Future[Values]]]) -> None:
        values: Values | None = None
        try:
            if not self._breakers.is_blocking:
                keys = [key for wanted, _ in batch for key in wanted]
                values = await self._read_script(keys=keys, args=[self._ttl_s])
        except Exception as error:  # noqa: BLE001 - recorded by the breaker; the service does without
            self._trip(error)
        finally:
            _settle(batch, values)

    def _write_later(self, key: str, value: bytes | None) -> None:
        if self._breakers.is_blocking:
            return
        size = len(value or b"")
        if self._writes_bytes + size > _LINE_BYTES:
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
        """What Redis refuses, being full perhaps, is not cached; that is no reason to stop reading."""
        if self._breakers.is_blocking:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, value in batch:
                    if value is None:
                        pipeline.delete(key)
                    else:
                        pipeline.set(key, value, ex=self._ttl_s)
                results = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - recorded by the breaker; the service does without
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
    """Whatever is wrong with it, the cache does without Redis for a while."""
    translated = translate(error) if isinstance(error, RedisError) else error
    if isinstance(translated, DependencyUnavailable):
        return translated
    return DependencyUnavailable(DEPENDENCY, str(translated))


def _settle(batch: Sequence[tuple[Sequence[str], asyncio.Future[Values]]], values: Values | None) -> None:
    """Hand each caller its part of `values`; without any, everybody has missed."""
    start = 0
    for keys, found in batch:
        if not found.done():  # a caller that has left is not waited for
            found.set_result([None] * len(keys) if values is None else values[start : start + len(keys)])
        start += len(keys)
