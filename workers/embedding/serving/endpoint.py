"""`POST /v1/embeddings`, as a plain ASGI endpoint: a framework's routing would cost more time than a cached answer."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from typing import Final

from prometheus_client import Counter
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingestion import metrics
from ingestion.adapters.embedding.wire import FINGERPRINT_HEADER
from ingestion.errors import IngestError
from ingestion.http.disconnect import cancel_on_disconnect
from ingestion.tracing import span
from workers.embedding.serving.answers import encode_answer
from workers.embedding.serving.bodies import Reservation, read_body
from workers.embedding.serving.requests import read_request
from workers.embedding.serving.service import EmbeddingService, PendingRequest, off_loop
from workers.embedding.serving.service_errors import JSON, ServiceError, service_error_from

_STOPPING_RETRY_S: Final = 1


class EmbeddingsEndpoint:
    """Reads a request, embeds its inputs, answers. A client that disconnects cancels its work."""

    def __init__(self, service: EmbeddingService) -> None:
        self._service = service
        self._headers = {FINGERPRINT_HEADER: service.model.embedder.fingerprint}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._service.bodies.hold() as reservation:  # until nothing made from the body is left
                response = await self._response(scope, receive, reservation)
        except ClientDisconnect:
            metrics.CALLERS_LEFT.inc()
            return
        except asyncio.CancelledError:  # the server stops and its grace period is over
            await _stopping().response()(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _response(self, scope: Scope, receive: Receive, reservation: Reservation) -> Response:
        started = time.perf_counter()
        lane = "none"
        try:
            body = await read_body(scope, receive, reservation, self._service.settings.embed_max_body_bytes)
            request = await off_loop(len(body), read_request, body, self._service.settings)
            del body
            lane = request.modality
            with span("look up"):
                pending = await self._service.look_up(request)
            if not pending.is_complete:
                with span("compute", attributes={"pagemill.inputs": len(pending.missing)}):
                    await cancel_on_disconnect(receive, self._service.complete(pending))
            response = Response(await self._encode(pending), headers=self._headers, media_type=JSON)
            pending.lane.observe(time.perf_counter() - started)
        except ServiceError as error:
            response = error.response()
        except IngestError as error:
            response = service_error_from(error).response()
        _answered(lane, response.status_code).inc()
        return response

    async def _encode(self, pending: PendingRequest) -> bytes:
        vectors = pending.answer
        return await off_loop(
            sum(one.nbytes for one in vectors),
            encode_answer,
            self._service.model_id,
            vectors,
            as_base64=pending.request.encoding_format == "base64",
            tokens=pending.tokens,
        )


@cache
def _answered(lane: str, status: int) -> Counter:
    """Cached: a lookup by labels takes longer than the increment."""
    return metrics.EMBED_REQUESTS.labels(lane, str(status))


def _stopping() -> ServiceError:
    detail = "this process is stopping; try again"
    return ServiceError(detail, code="stopping", status=503, retry_after_s=_STOPPING_RETRY_S)
