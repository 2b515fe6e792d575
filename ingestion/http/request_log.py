"""The application call of one request, and the log line of the request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from ingestion.tracing.http import REQUEST_ID_FIELD, end_request, serving
from ingestion.tracing.request_ids import current_request_id

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from ingestion.http.transport import MeteredTransport

log = structlog.get_logger(__name__)

PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
CLIENT_CLOSED_REQUEST: Final = 499
"""The status that is logged where the client left before an answer, as in nginx."""
_FIRST_ERROR_STATUS: Final = 400
_LOGGED_PATH_CHARS: Final = 300


class LoggedRequest:
    """An ASGI application for one request: it calls the real application and logs one line at the end."""

    __slots__ = ("_app", "_cycle", "_on_end", "_quiet", "_request_id", "_send", "_transport", "status")

    def __init__(
        self,
        app: Any,
        cycle: RequestResponseCycle,
        transport: MeteredTransport,
        on_end: Callable[[LoggedRequest], None],
        *,
        quiet: bool,
    ) -> None:
        """`on_end` is called when the application has returned or raised."""
        self._app = app
        self._cycle = cycle
        self._transport = transport
        self._on_end = on_end
        self._quiet = quiet
        self._request_id = b""
        self.status = CLIENT_CLOSED_REQUEST

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._send = send
        began_s = time.perf_counter()
        written_bytes = self._transport.written_bytes
        with serving(scope, is_recorded=scope["path"] not in PROBES) as span:
            self._request_id = current_request_id().encode()
            try:
                await self._app(scope, receive, self._note_status)
            finally:
                self._on_end(self)
                end_request(span, scope, self.status)
                log_request(
                    scope["method"],
                    scope["path"],
                    self.status,
                    seconds=time.perf_counter() - began_s,
                    sent_bytes=self._transport.written_bytes - written_bytes,
                    quiet=self._quiet,
                )

    async def _note_status(self, message: Any) -> None:
        if message["type"] != "http.response.start":
            await self._send(message)
            self._transport.release()
            return
        self.status = message["status"]
        # The list of the headers may belong to an answer that the application sends again.
        message = {**message, "headers": [*message.get("headers", ()), (REQUEST_ID_FIELD, self._request_id)]}
        if self._cycle.more_body:
            # The rest of the body would have to be read before the next request.
            self._cycle.keep_alive = False
        # The head waits for the first part of the body, at most until the next turn of the event loop.
        self._transport.hold()
        asyncio.get_running_loop().call_soon(self._transport.release)
        await self._send(message)


def log_request(method: str, path: str, status: int, *, seconds: float, sent_bytes: int, quiet: bool) -> None:
    """Log one line: at level debug for the success of a probe, or of a quiet server."""
    succeeded = status < _FIRST_ERROR_STATUS
    level = logging.DEBUG if succeeded and (quiet or path in PROBES) else logging.INFO
    log.log(
        level,
        "request",
        method=method,
        path=path[:_LOGGED_PATH_CHARS],
        status=status,
        seconds=round(seconds, 4),
        sent_bytes=sent_bytes,
    )
