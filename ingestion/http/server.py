"""An HTTP server: uvicorn with the limits of this package."""

from __future__ import annotations

import asyncio
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn

from ingestion.http.connections import Connections
from ingestion.http.error_responses import ErrorBody, problem_body
from ingestion.http.limits import accept_queue, limits_of
from ingestion.http.protocol import LimitedProtocol
from ingestion.settings import HttpSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = structlog.get_logger(__name__)

TICK_S: Final = 1.0
_LONGEST_TICK_S: Final = 2 * TICK_S
"""The most that one tick counts: peers do not pay for time in which this process did not read."""
_ACCEPT_FAILED: Final = "socket.accept() out of system resource"
_ACCEPT_LOG_EVERY_S: Final = 10.0


class HttpServer:
    """Serves one application. `server` is the uvicorn server; set `should_exit` on it to stop."""

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        grace_s: int = 5,
        descriptors_each: int = 1,
        quiet: bool = False,
        error_body: ErrorBody = problem_body,
    ) -> None:
        """`descriptors_each`: descriptors per connection. `quiet`: log only requests that failed.

        Make it in the event loop that it will run in.
        """
        queue = accept_queue(asyncio.get_running_loop())
        limits = limits_of(settings, descriptors_each=descriptors_each, accepted_per_turn=queue.per_turn)
        self.connections = Connections(limits)
        protocol: Any = partial(LimitedProtocol, connections=self.connections, error_body=error_body, quiet=quiet)
        self.server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=protocol,
                ws="none",
                log_config=None,
                access_log=False,
                backlog=queue.length,
                timeout_graceful_shutdown=grace_s,
            )
        )

    async def run(self, sockets: list[socket.socket] | None = None, *, with_signals: bool = True) -> None:
        """Serve until stopped. Then wait for requests in progress, at most `grace_s`."""
        loop = asyncio.get_running_loop()
        handler = loop.get_exception_handler()
        loop.set_exception_handler(_AcceptErrorLog())
        ticking = asyncio.create_task(self._tick())
        ticking.add_done_callback(self._stop_when_ticks_end)
        try:
            await (self.server.serve(sockets) if with_signals else self.server._serve(sockets))
        finally:
            ticking.cancel()
            loop.set_exception_handler(handler)

    async def _tick(self) -> None:
        before_s = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            self.connections.tick(min(now_s - before_s, _LONGEST_TICK_S))
            before_s = now_s

    def _stop_when_ticks_end(self, ticking: asyncio.Task[None]) -> None:
        if not ticking.cancelled():
            log.error("time limits no longer enforced; stopping", exc_info=ticking.exception())
            self.server.should_exit = True


class _AcceptErrorLog:
    """Logs one failure to accept in _ACCEPT_LOG_EVERY_S. The event loop reports each connection that fails."""

    def __init__(self) -> None:
        self._logged_at_s = -_ACCEPT_LOG_EVERY_S

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != _ACCEPT_FAILED:
            loop.default_exception_handler(context)
            return
        now_s = time.monotonic()
        if now_s - self._logged_at_s >= _ACCEPT_LOG_EVERY_S:
            self._logged_at_s = now_s
            log.error("cannot accept connections", cause=str(context.get("exception")))
