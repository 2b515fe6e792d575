"""The ASGI application of the embedding service: its routes, and errors in the format of OpenAI's clients."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.embedding.serving.endpoint import EmbeddingsEndpoint
from workers.embedding.serving.service import EmbeddingService
from workers.embedding.serving.service_errors import JSON, ModelLost, ServiceError

log = structlog.get_logger(__name__)


def create_service(service: EmbeddingService) -> Starlette:
    """Make the application. The caller that made `service` opens and closes its model and cache."""
    info = _InfoRoutes(service)
    routes = [
        Route("/v1/embeddings", EmbeddingsEndpoint(service), methods=["POST"]),
        Route("/v1/models", info.models),
        Route("/health", info.health),
        Route("/ready", info.ready),
        Route("/metrics", _metrics),
    ]
    handlers: dict[Any, Any] = {HTTPException: _on_http_exception, Exception: _on_unhandled}
    return Starlette(routes=routes, exception_handlers=handlers)


class _InfoRoutes:
    """Routes that describe the service and its state."""

    def __init__(self, service: EmbeddingService) -> None:
        self._service = service

    async def models(self, request: Request) -> Response:
        """The model and its limits."""
        embedder = self._service.model.embedder
        model = {
            "id": self._service.model_id,
            "object": "model",
            "created": 0,
            "owned_by": "pagemill",
            "fingerprint": embedder.fingerprint,
            "dim": embedder.dim,
            "wants_pixels": embedder.wants_pixels,
            "modalities": self._service.modalities,
            "lane": "both" if len(self._service.modalities) > 1 else self._service.modalities[0],
            "max_inputs": self._service.settings.embed_max_inputs,
        }
        return _json({"object": "list", "data": [model]})

    async def health(self, request: Request) -> Response:
        """Always 200: the load of this process. `cache` is "ok", "down", or "off" without a cache."""
        cache = self._service.cache
        return _json(
            {
                "status": "alive",
                "model": self._service.model_id,
                "cache": cache.status if cache else "off",
                "bodies": self._service.bodies.status(),
                "lanes": {name: lane.status() for name, lane in self._service.lanes.items()},
            }
        )

    async def ready(self, request: Request) -> Response:
        """200 if the model works, otherwise 503 with the cause."""
        try:
            await self._service.model.check()
        except ModelLost as lost:
            return lost.response()
        return _json({"status": "ready", "model": self._service.model_id})


async def _metrics(request: Request) -> Response:
    text = await asyncio.to_thread(generate_latest)  # a thousand series take tens of milliseconds
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Errors of the router: unknown path, wrong method."""
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return ServiceError(
        detail, code="not_found" if error.status_code == 404 else "bad_request", status=error.status_code
    ).response()


async def _on_unhandled(request: Request, error: Exception) -> Response:
    log.error("unhandled error", method=request.method, path=request.url.path, exc_info=error)
    return ServiceError("internal error; the log of the service has the cause", code="internal", status=500).response()


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)
