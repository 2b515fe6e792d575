"""One request and its answer: how the application is called, and the line that is logged of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from ingestion.http.wire import Wire

log = structlog.get_logger(__name__)

PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
LEFT: Final = 499
"""Logged as the status where the caller left before an answer, as nginx has it."""
_FAILED: Final = 400
_SHOWN_CHARS: Final = 300


class Exchange:
    """An ASGI application around another, for one request."""

    __slots__ = ("_app", "_cycle", "_over", "_quiet", "_send", "_wire", "body_bytes", "status")

    def __init__(
        self, app: Any, cycle: RequestResponseCycle, wire: Wire, over: Callable[[Exchange], None], *, quiet: bool
    ) -> None:
        self._app = app
        self._cycle = cycle
        self._wire = wire
        self._over = over
        self._quiet = quiet
        self.status = LEFT

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._send = send
        began_s = time.perf_counter()
        written = self._wire.written_bytes
        try:
            await self._app(scope, receive, self._watched)
        finally:
            self._over(self)
            log_request(
                scope["method"],
                scope["path"],
                self.status,
                seconds=time.perf_counter() - began_s,
                sent_bytes=self._wire.written_bytes - written,
                quiet=self._quiet,
            )

    async def _watched(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._cycle.more_body:
                # The rest of the body is not wanted, and would have to be read before another request.
                self._cycle.keep_alive = False
        await self._send(message)


def log_request(method: str, path: str, status: int, *, seconds: float, sent_bytes: int, quiet: bool) -> None:
    """The one line of a request; none where a quiet server has succeeded. Probes that succeed are for debugging."""
    succeeded = status < _FAILED
    if quiet and succeeded:
        return
    level = logging.DEBUG if succeeded and path in PROBES else logging.INFO
    shown = path[:_SHOWN_CHARS]
    log.log(
        level, "request", method=method, path=shown, status=status, seconds=round(seconds, 4), sent_bytes=sent_bytes
    )
