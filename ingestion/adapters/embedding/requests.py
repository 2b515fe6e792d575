"""Requests to an embedding service: bounded in number, over kept connections, repeated where it is overloaded."""

from __future__ import annotations

import asyncio
import math
import random
import ssl
import time
from functools import cache
from typing import Final

import httpx
import stamina

from ingestion.concurrency.deadline import within_budget
from ingestion.errors import BadRequest, DependencyUnavailable, IngestError, Overloaded, WorkerFault
from ingestion.settings import EmbedderSettings
from ingestion.tracing import inject, span

DEPENDENCY: Final = "embedder"

_TOO_MANY_REQUESTS: Final = 429
_UNAVAILABLE: Final = frozenset({502, 503, 504})
_FROM_BETWEEN: Final = frozenset({502, 504})
"""A proxy answers this where the service died during a request, or did not answer it."""
_NOT_OURS_TO_USE: Final = frozenset({401, 403, 404})
"""A wrong key or address, or a model that is no longer served: the input is not at fault."""

_OUTAGE_S: Final = 2.0
"""For how long a request is repeated to a service that cannot be reached: long enough for a closed connection, or
for a replica to be replaced. In a longer outage the caller decides."""

_LATER_S: Final = 1
"""The pause before the next request to an overloaded service that names none."""

_CONNECT_S: Final = 5.0
_IDLE_S: Final = 4.0
"""Uvicorn closes idle connections after 5 s. Closing earlier avoids sending a request on a closed connection."""

_JITTER: Final = 0.25
"""Added to a pause that a server asked for, so that its callers do not all come back at the same moment."""


class Unanswered(DependencyUnavailable):
    """A request was sent and not answered. The service or the input may be the cause."""


class ServerFailed(WorkerFault):
    """The service failed at a request. The service or the input may be the cause."""


_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def translate(error: httpx.HTTPError) -> IngestError:
    """An exception of httpx as one of ours."""
    if isinstance(error, httpx.HTTPStatusError):
        status, body = error.response.status_code, error.response.text[:300]
        if status in _FROM_BETWEEN:
            return Unanswered(DEPENDENCY, f"HTTP {status}: {body}")
        if status == _TOO_MANY_REQUESTS or status in _UNAVAILABLE | _NOT_OURS_TO_USE:
            return DependencyUnavailable(DEPENDENCY, f"HTTP {status}: {body}")
        if status >= 500:
            return ServerFailed(f"{DEPENDENCY} failed: HTTP {status}: {body}")
        return BadRequest(f"{DEPENDENCY} refused the request: HTTP {status}: {body}")
    kind = DependencyUnavailable if isinstance(error, _NEVER_SENT) else Unanswered
    return kind(DEPENDENCY, f"{type(error).__name__}: {error}")


@cache
def _default_trust() -> ssl.SSLContext:
    """The context that httpx makes for each client. To load its certificates takes 25 ms."""
    return httpx.create_ssl_context()


class EmbeddingRequests:
    """Sends requests and gives back answers with status 200. Raises DependencyUnavailable, WorkerFault, BadRequest.

    A request to an overloaded service is repeated for `embedder_patience_s`, never earlier than the service says.
    After that the service counts as unavailable. Requests are safe to repeat.
    """

    def __init__(self, settings: EmbedderSettings) -> None:
        concurrency = settings.embedder_concurrency
        key = settings.embedder_key.get_secret_value()
        self._client = httpx.AsyncClient(
            base_url=settings.embedder_url,
            verify=_default_trust(),
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=httpx.Timeout(settings.embedder_timeout_s, connect=min(_CONNECT_S, settings.embedder_timeout_s)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=concurrency, keepalive_expiry=_IDLE_S),
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._patience_s = settings.embedder_patience_s
        self._timeout_s = settings.embedder_timeout_s

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> httpx.Response:
        return await self._again("GET", path, None)

    async def post(self, path: str, body: bytes, *, is_patient: bool = True) -> httpx.Response:
        """Waits until one of the `embedder_concurrency` slots is free. A pause before a retry holds no slot.

        Without patience, raises Overloaded at once where the service is overloaded.
        """
        return await self._again("POST", path, body, is_patient=is_patient)

    async def post_once(self, path: str, body: bytes) -> httpx.Response:
        """As `get_once`."""
        try:
            return await self._send("POST", path, body)
        except httpx.HTTPError as error:
            raise translate(error) from error

    async def get_once(self, path: str) -> httpx.Response:
        """Sends one request, without waiting for a slot and without a retry."""
        try:
            return await self._send("GET", path, None)
        except httpx.HTTPError as error:
            raise translate(error) from error

    async def _again(self, method: str, path: str, body: bytes | None, *, is_patient: bool = True) -> httpx.Response:
        async with within_budget(DEPENDENCY):
            return await self._try_again(method, path, body, is_patient=is_patient)

    async def _try_again(self, method: str, path: str, body: bytes | None, *, is_patient: bool) -> httpx.Response:
        patience = _Patience(self._patience_s if is_patient else 0.0)
        try:
            async for attempt in stamina.retry_context(
                on=patience.pause, attempts=None, timeout=None, wait_initial=0.05, wait_max=1.0, wait_jitter=0.1
            ):
                with attempt:
                    async with self._slots:
                        return await self._send(method, path, body)
        except httpx.HTTPError as error:
            if not is_patient and _is_overload(error):
                raise Overloaded(DEPENDENCY, math.ceil(_retry_after_s(error) or _LATER_S)) from error
            raise translate(error) from error
        raise AssertionError("stamina ended without a result or an error")

    async def _send(self, method: str, path: str, body: bytes | None) -> httpx.Response:
        """Limits the whole request. The timeout of httpx starts again with each byte that arrives."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        with span(f"{method} {path}", "client", {"http.request.method": method, "peer.service": DEPENDENCY}) as sent:
            inject(headers)
            try:
                async with asyncio.timeout(self._timeout_s):
                    response = await self._client.request(method, path, content=body, headers=headers)
            except TimeoutError as error:
                raise httpx.ReadTimeout(f"no whole answer within {self._timeout_s:g} s") from error
            sent.set({"http.response.status_code": response.status_code})
            return response.raise_for_status()


def _is_overload(error: httpx.HTTPError) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == _TOO_MANY_REQUESTS


class _Patience:
    """Decides whether and when one request is repeated."""

    def __init__(self, overload_s: float) -> None:
        self._overload_s = overload_s
        self._since: float | None = None

    def pause(self, error: Exception) -> bool | float:
        """stamina's hook: False to give up, True for its own pause, or the pause in seconds."""
        limit_s = self._limit_s(error)
        if not limit_s:
            return False
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        left_s = limit_s - (now - self._since)
        asked_s = _retry_after_s(error)
        if asked_s is None:
            return left_s > 0
        return asked_s * random.uniform(1, 1 + _JITTER) if asked_s < left_s else False

    def _limit_s(self, error: Exception) -> float:
        if isinstance(error, httpx.HTTPStatusError):
            status = error.response.status_code
            if status == _TOO_MANY_REQUESTS:
                return self._overload_s
            return _OUTAGE_S if status in _UNAVAILABLE else 0.0
        # A request that ran out of time is not repeated: it has cost its whole time already.
        lost = isinstance(error, httpx.TransportError) and not isinstance(error, httpx.TimeoutException)
        return _OUTAGE_S if lost else 0.0


def _retry_after_s(error: Exception) -> float | None:
    """The seconds of the header Retry-After; None where it is missing or a date."""
    value = error.response.headers.get("retry-after", "") if isinstance(error, httpx.HTTPStatusError) else ""
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
