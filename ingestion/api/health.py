"""Routes for operators: liveness, readiness, metrics. They need no API key; metrics may need a key of their own."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from ingestion.api.auth import bearer_token
from ingestion.api.client_address import is_private
from ingestion.api.problems import RETRY_AFTER_S, problem
from ingestion.bootstrap import Services
from ingestion.errors import DependencyRefused, RetryableError, Unauthorized

log = structlog.get_logger(__name__)
router = APIRouter(tags=["operations"])

PING_TIMEOUT_S: Final = 2.0


class Readiness:
    """Pings every dependency concurrently, and remembers since when a dependency has been down."""

    def __init__(self, services: Services) -> None:
        self._pings: dict[str, Callable[[], Awaitable[None]]] = {
            "kafka": services.queue.ping,
            "milvus": services.vectors.ping,
            "mongodb": services.documents.ping,
            "redis": services.progress.ping,
            "s3": services.blobs.ping,
        }
        self._down_since: dict[str, datetime] = {}
        self._refusals: dict[str, str] = {}

    async def check(self) -> dict[str, dict[str, Any]]:
        """By dependency `{"up": true}`, or `{"up": false, "since": ...}` with the time of the first failed check.

        A server that refuses this process has a `cause` too, which names the setting.
        """
        await asyncio.gather(*(self._ping(name) for name in self._pings))
        return {name: self._status(name) for name in self._pings}

    async def _ping(self, name: str) -> None:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._pings[name]()
        except (RetryableError, TimeoutError) as error:
            if isinstance(error, DependencyRefused):
                self._refusals[name] = error.message
            if name not in self._down_since:
                self._down_since[name] = datetime.now(UTC)
                log.warning("dependency down", dependency=name, cause=str(error) or "no answer in time")
        else:
            self._refusals.pop(name, None)
            if self._down_since.pop(name, None):
                log.info("dependency up again", dependency=name)

    def _status(self, name: str) -> dict[str, Any]:
        since = self._down_since.get(name)
        if since is None:
            return {"up": True}
        down = {"up": False, "since": since.isoformat(timespec="seconds")}
        return {**down, "cause": self._refusals[name]} if name in self._refusals else down


@router.get("/health")
async def health() -> dict[str, str]:
    """200 while this process answers."""
    return {"status": "alive"}


@router.get("/ready")
async def ready(request: Request) -> Response:
    """200 while all dependencies answer; otherwise 503 with the dependencies that are down, and since when."""
    readiness: Readiness = request.app.state.readiness
    dependencies = await readiness.check()
    down = [name for name, status in dependencies.items() if not status["up"]]
    if down:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return problem(503, "not_ready", f"down: {', '.join(down)}", headers=headers, dependencies=dependencies)
    return JSONResponse({"status": "ready", "dependencies": dependencies})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def prometheus_metrics(request: Request) -> Response:
    """All metrics of this process in the text format of Prometheus. Makes no request to a store.

    They need the bearer key PAGEMILL_METRICS_KEY. Where it is not set, callers on public networks, or behind a proxy,
    get 401.
    """
    services: Services = request.app.state.services
    _require_metrics_key(request, services.settings.api.metrics_key.get_secret_value().encode())
    text = await asyncio.to_thread(generate_latest)  # a thousand series take tens of milliseconds
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _require_metrics_key(request: Request, key: bytes) -> None:
    """Raises Unauthorized. It names tenants' collections, so it is for operators."""
    if key:
        if not hmac.compare_digest(bearer_token(request.headers) or b"", key):
            raise Unauthorized("send the key of PAGEMILL_METRICS_KEY as 'Authorization: Bearer KEY'")
    elif not is_private(request.scope):
        raise Unauthorized("metrics are shown on private networks only, unless PAGEMILL_METRICS_KEY is set")
