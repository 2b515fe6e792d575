"""Answers of searches in Redis. Without Redis every search is computed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Final, Self

import structlog
from redis.exceptions import RedisError

from ingestion import metrics
from ingestion.adapters.redis.progress import DEPENDENCY, open_client, translate
from ingestion.concurrency.cancellation import swallowed_cancellation_raised
from ingestion.concurrency.deadline import is_spent, remaining_s
from ingestion.settings import RedisSettings

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 0.25
_REST_S: Final = 5.0
"""A Redis that did not answer is not asked again for this time."""


class RedisQueryCache:
    """QueryCache. The first failure of an outage is logged, and so is its end."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._down = False
        self._rests_until_s = 0.0

    async def __aenter__(self) -> Self:
        self._client = open_client(self._settings, _TIMEOUT_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, key: str) -> bytes | None:
        if self._rests:
            return None
        value: bytes | None = await self._best_effort("get_answer", self._client.get(key))
        return value

    async def put(self, key: str, value: bytes, ttl_s: int) -> None:
        if not self._rests:
            await self._best_effort("put_answer", self._client.set(key, value, ex=ttl_s))

    @property
    def _rests(self) -> bool:
        return is_spent() or asyncio.get_running_loop().time() < self._rests_until_s

    async def _best_effort(self, operation: str, request: Awaitable[Any]) -> Any:
        try:
            with metrics.STORE_REQUESTS.labels(DEPENDENCY, operation).time():
                async with asyncio.timeout(remaining_s()):
                    with swallowed_cancellation_raised():
                        result = await request
        except (RedisError, TimeoutError) as error:
            self._rests_until_s = asyncio.get_running_loop().time() + _REST_S
            if not self._down:
                log.warning("answers are not cached", dependency=DEPENDENCY, cause=_cause(error))
            self._down = True
            return None
        if self._down:
            log.info("answers are cached again", dependency=DEPENDENCY)
        self._down = False
        return result


def _cause(error: RedisError | TimeoutError) -> str:
    return translate(error).message if isinstance(error, RedisError) else "the search had no more time to wait for it"
