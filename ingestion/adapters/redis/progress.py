"""Progress and running totals in Redis. Best effort: documents are processed without Redis too."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError,
)

from ingestion import metrics
from ingestion.adapters.tls import refused_certificate
from ingestion.concurrency.cancellation import swallowed_cancellation_raised
from ingestion.errors import DependencyRefused, DependencyUnavailable, IngestError, InvalidSetting, WorkerFault
from ingestion.settings import RedisSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

DEPENDENCY = "redis"
TOTALS_KEY: Final = "metrics:ingestion"
_PROBED_KEY: Final = "query:"
"""A ping reads it: a Sentinel, a node of a Cluster and a server that wants a right answer PING all the same."""
_OTHER_KINDS: Final = {
    **dict.fromkeys(("MovedError", "AskError", "ClusterDownError"), "Cluster"),
    "unknown command": "Sentinel",
}
"""In the errors of what is not a single server."""
_SCHEMES: Final = ("redis", "rediss", "unix")
OUTAGES_KEY: Final = "outages"
"""A hash: the server, and the Unix times of the begin of its outage and of the last report."""
_OUTAGE_S: Final = 15
"""A report of an outage holds for so long. Workers repeat it more often."""
_TIMEOUT_S: Final = 1.0
_REST_S: Final = 5.0
"""After a timeout no request is sent for this time. An upload of 200 files would wait for 200 timeouts otherwise."""


def task_key(document_id: str) -> str:
    return f"task:{document_id}"


def _outage_since(text: str) -> datetime | None:
    """The begin of the outage. None where the last report is old, or of another form."""
    try:
        since_s, reported_s = map(float, text.split(" "))
        return datetime.fromtimestamp(since_s, UTC) if time.time() - reported_s < _OUTAGE_S else None
    except (ValueError, OverflowError, OSError):
        return None


def translate(error: RedisError) -> IngestError:
    """Return the IngestError for an exception of redis-py."""
    message = f"{type(error).__name__}: {error}"
    if refused := refused_certificate(
        error,
        "Redis",
        address_setting="PAGEMILL_REDIS_URL",
        ca_setting="ssl_ca_certs in PAGEMILL_REDIS_URL",
        client_setting="ssl_certfile and ssl_keyfile in PAGEMILL_REDIS_URL",
    ):
        return DependencyRefused(DEPENDENCY, refused)
    if isinstance(error, AuthenticationError | AuthorizationError):
        return DependencyRefused(DEPENDENCY, f"check user and password in PAGEMILL_REDIS_URL ({message})")
    if isinstance(error, NoPermissionError):
        return DependencyRefused(DEPENDENCY, f"the user of PAGEMILL_REDIS_URL lacks a right ({message})")
    if kind := next((kind for words, kind in _OTHER_KINDS.items() if words in message), None):
        return DependencyRefused(
            DEPENDENCY,
            f"PAGEMILL_REDIS_URL leads to a {kind}, which is not supported: name a single server, or a proxy in front "
            f"of the {kind} ({message})",
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return DependencyUnavailable(DEPENDENCY, message)
    return WorkerFault(f"{DEPENDENCY}: {message}")


def open_client(settings: RedisSettings, timeout_s: float, *, decode_responses: bool = False) -> Redis:
    """Return a client that tries each request once, for at most `timeout_s`: the callers can work without Redis.

    Raises InvalidSetting for an address that is not of a single server, such as that of a Sentinel.
    """
    scheme = settings.redis_url.partition("://")[0] if "://" in settings.redis_url else ""
    if scheme not in _SCHEMES:
        raise InvalidSetting(
            f"PAGEMILL_REDIS_URL: {scheme}:// is not supported, only {', '.join(f'{one}://' for one in _SCHEMES)}: "
            "name a single server, or a proxy in front of a Sentinel or a Cluster"
        )
    return Redis.from_url(
        settings.redis_url,
        decode_responses=decode_responses,
        encoding_errors="replace",
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), retries=0),
    )


class RedisProgress:
    """Implements the port Progress. Logs the first failure of an outage, and its end."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._down = False
        self._rests_until_s = 0.0

    async def __aenter__(self) -> Self:
        self._client = open_client(self._settings, _TIMEOUT_S, decode_responses=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def report(self, document_id: str, *, status: str, message: str, processed: int, total: int) -> None:
        async def write() -> None:
            async with self._client.pipeline(transaction=True) as pipeline:
                fields: dict[Any, Any] = {"status": status, "message": message, "processed": processed, "total": total}
                pipeline.hset(task_key(document_id), mapping=fields)
                pipeline.expire(task_key(document_id), self._settings.redis_task_ttl_s)
                await pipeline.execute()

        await self._best_effort("report", write, otherwise=None)

    async def read(self, document_id: str) -> dict[str, str]:
        async def fetch() -> dict[str, str]:
            task: Any = await self._client.hgetall(task_key(document_id))
            return dict(task)

        return await self._best_effort("read", fetch, otherwise={})

    async def read_many(self, document_ids: Sequence[str]) -> list[dict[str, str]]:
        async def fetch() -> list[dict[str, str]]:
            async with self._client.pipeline(transaction=False) as pipeline:
                for document_id in document_ids:
                    pipeline.hgetall(task_key(document_id))
                return [dict(task) for task in await pipeline.execute()]

        if not document_ids:
            return []
        return await self._best_effort("read", fetch, otherwise=[{} for _ in document_ids])

    async def report_outages(self, since: Mapping[str, datetime]) -> None:
        async def write() -> None:
            fields: dict[Any, Any] = {name: f"{at.timestamp():.3f} {time.time():.3f}" for name, at in since.items()}
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.hset(OUTAGES_KEY, mapping=fields)
                pipeline.expire(OUTAGES_KEY, _OUTAGE_S)
                await pipeline.execute()

        if since:
            await self._best_effort("report_outages", write, otherwise=None)

    async def outages(self) -> dict[str, datetime]:
        async def fetch() -> dict[str, str]:
            fields: Any = await self._client.hgetall(OUTAGES_KEY)
            return dict(fields)

        nothing: dict[str, str] = {}
        reported = await self._best_effort("outages", fetch, otherwise=nothing)
        return {name: since for name, text in reported.items() if (since := _outage_since(text))}

    async def forget(self, document_id: str) -> None:
        await self._best_effort("forget", lambda: self._client.delete(task_key(document_id)), otherwise=0)

    async def add(self, **amounts: int) -> None:
        async def count() -> None:
            async with self._client.pipeline(transaction=False) as pipeline:
                for name, amount in amounts.items():
                    pipeline.hincrby(TOTALS_KEY, name, amount)
                await pipeline.execute()

        await self._best_effort("add", count, otherwise=None)

    async def ping(self) -> None:
        try:
            with swallowed_cancellation_raised():
                await self._client.get(_PROBED_KEY)
        except RedisError as error:
            raise translate(error) from error

    async def _best_effort(self, operation: str, request: Callable[[], Awaitable[T]], otherwise: T) -> T:
        if time.monotonic() < self._rests_until_s:
            return otherwise
        try:
            with metrics.STORE_REQUESTS.labels(DEPENDENCY, operation).time(), swallowed_cancellation_raised():
                result = await request()
        except RedisError as error:
            if isinstance(error, TimeoutError):
                self._rests_until_s = time.monotonic() + _REST_S
            if not self._down:
                log.warning("progress is not recorded", dependency=DEPENDENCY, cause=translate(error).message)
            self._down = True
            return otherwise
        if self._down:
            log.info("progress is recorded again", dependency=DEPENDENCY)
        self._down = False
        return result
