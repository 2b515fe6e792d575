"""uvicorn's HTTP/1.1 protocol with limits. httptools, its parser, has none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingestion import metrics
from ingestion.http import error_responses
from ingestion.http.connections import Connections, ConnectionSlot
from ingestion.http.error_responses import ErrorBody, ErrorResponse
from ingestion.http.framing import Framing
from ingestion.http.limits import (
    LINGER_BYTES,
    LINGER_S,
    MAX_HEAD_BYTES,
    MAX_HEADER_FIELDS,
    MAX_PIPELINED,
    StallTimer,
)
from ingestion.http.request_log import PROBES, LoggedRequest, log_request
from ingestion.http.transport import MeteredTransport

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

_PROBES: Final = frozenset(path.encode() for path in PROBES)
_PIECE_BYTES: Final = MAX_HEAD_BYTES
"""The largest piece for the parser, so that a limit is noticed before much has been parsed."""


class _AbortParsing(Exception):
    """Stops the parser from within a callback."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection: it receives a head or a body, waits for the application, or is idle. `tick` limits each time."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
        error_body: ErrorBody,
        quiet: bool,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        self._connections = connections
        self._limits = limits = connections.limits
        self._error_body = error_body
        self._quiet = quiet
        self._slot = ConnectionSlot.REGULAR
        self._logged_request: LoggedRequest | None = None
        self._error: ErrorResponse | None = None
        self._ignores_input = False
        """Input is dropped: the parser has failed, or the last request has arrived."""
        self._is_lost = False
        self._in_head = True
        self._head_bytes = 0
        self._complete_messages = 0
        self._framing: Framing | None = None
        self._head_s = 0.0
        self._head_limit_s = limits.header_timeout_s
        self._linger_s = LINGER_S
        self._dropped_bytes = 0
        self._received_bytes = 0
        self._delivered_bytes = 0
        self._sender = StallTimer(limits.stall_s, limits.min_bytes_per_s)
        self._reader = StallTimer(limits.stall_s, limits.min_bytes_per_s)

    # Called by asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = MeteredTransport(transport, self._end)
        super().connection_made(self._transport)  # type: ignore[arg-type]
        self._slot = self._connections.add(self, self.client[0] if self.client else "")
        if self._slot is ConnectionSlot.NONE:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if len(data) <= self._piece_limit_bytes() and not self._drops_input():
            self._feed(data)
            return
        rest = memoryview(data)
        while rest and not self._drops_input():
            limit_bytes = self._piece_limit_bytes()
            self._feed(rest[:limit_bytes])
            rest = rest[limit_bytes:]
        self._dropped_bytes += len(rest)
        if self._dropped_bytes > LINGER_BYTES:
            self._transport.inner.close()

    # Called by the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_limit_s != self._limits.header_timeout_s:
            self._head_limit_s = self._limits.header_timeout_s
            self._head_s = 0.0

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADER_FIELDS:
            self._abort(error_responses.HEAD_TOO_LARGE)
        if len(self.pipeline) >= MAX_PIPELINED:
            self._abort(error_responses.TOO_MANY_PIPELINED)
        if self._slot is ConnectionSlot.RESERVED and self._connections.is_over_limit(self) and self.url not in _PROBES:
            self._abort(error_responses.TOO_MANY_CONNECTIONS)
        super().on_headers_complete()
        self.headers = []  # The parser appends trailer fields; the application must not see them.
        self._in_head = False
        self._framing = None
        self._sender.reset()
        self._connections.mark_busy(self)

    def on_body(self, body: bytes) -> None:
        self._delivered_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._complete_messages += 1
        self._in_head = True
        self._head_bytes = 0
        self._head_limit_s = self._limits.keep_alive_s

    # Called by uvicorn

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._logged_request = LoggedRequest(app, cycle, self._transport, self._on_request_end, quiet=self._quiet)
        super()._start_asgi_task(cycle, self._logged_request)

    def on_response_complete(self) -> None:
        """Replaces uvicorn's, which starts a timer for each answer. `tick` closes idle connections."""
        self.server_state.total_requests += 1
        if self._transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._ignores_input:
            self._end()
        else:
            self._head_s = 0.0
            self._connections.mark_idle(self)

    def _on_request_end(self, request: LoggedRequest) -> None:
        """The application has returned. If it could not answer, the connection ends without an answer."""
        if self._ignores_input and not self.pipeline and self._logged_request is request:
            self._end()

    # Limits

    def has_unsent(self) -> bool:
        return self._transport.unsent_bytes() > 0

    def drop(self) -> None:
        self._transport.inner.abort()

    def tick(self, elapsed_s: float) -> None:
        received, self._received_bytes = self._received_bytes, 0
        unsent = self._transport.unsent_bytes()
        taken = self._transport.taken_bytes(unsent)
        if unsent:
            if self._reader.tick(elapsed_s, taken):
                metrics.HTTP_ENDED.labels("slow_reader").inc()
                self.drop()
            return
        self._reader.reset()
        if self._transport.is_ending:
            self._linger_s -= elapsed_s
            if self._linger_s <= 0:
                self._transport.inner.close()
        elif not self._in_head:
            # The sender's time stops while the sender may not send.
            is_paused = self.flow.read_paused or self.cycle.waiting_for_100_continue
            if not is_paused and self._sender.tick(elapsed_s, received):
                self._end_with_error(error_responses.BODY_TOO_SLOW)
        elif not self._is_answering():
            self._tick_head(elapsed_s)

    def _tick_head(self, elapsed_s: float) -> None:
        self._head_s += elapsed_s
        if self._head_s < self._head_limit_s:
            return
        if self._head_bytes:
            self._end_with_error(error_responses.HEAD_TOO_SLOW)
        else:
            metrics.HTTP_ENDED.labels("idle").inc()
            self._end()

    def _feed(self, piece: bytes | memoryview) -> None:
        was_in_head, messages, delivered = self._in_head, self._complete_messages, self._delivered_bytes
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade:
            # A server may ignore an upgrade. The bytes after the request may be of the other protocol.
            self._ignores_input = True
            self.cycle.keep_alive = False
            return
        except HttpParserError:
            self._end_with_error(self._error or error_responses.MALFORMED)
            return
        if self._complete_messages != messages:
            return  # This piece holds little of the next message.
        if self._in_head:
            self._head_bytes += len(piece)
            if self._head_bytes >= MAX_HEAD_BYTES:
                is_address = len(self.url) > MAX_HEAD_BYTES // 2
                self._end_with_error(error_responses.URI_TOO_LONG if is_address else error_responses.HEAD_TOO_LARGE)
        elif not was_in_head:
            framing = self._framing = self._framing or Framing()
            if not framing.admits(len(piece), self._delivered_bytes - delivered):
                self._end_with_error(error_responses.FRAMING_TOO_LARGE)

    def _piece_limit_bytes(self) -> int:
        return MAX_HEAD_BYTES - self._head_bytes if self._in_head else _PIECE_BYTES

    def _drops_input(self) -> bool:
        return self._ignores_input or self._transport.is_ending

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _abort(self, error: ErrorResponse) -> NoReturn:
        self._error = error
        raise _AbortParsing

    def _end_with_error(self, error: ErrorResponse) -> None:
        """End the request that is being received. Earlier requests are answered first."""
        metrics.HTTP_ENDED.labels(error.reason).inc()
        self._ignores_input = True
        if self._is_answering():
            if self._in_head:
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.pipeline:
                return
            if self._logged_request and not self.cycle.response_started:
                self._logged_request.status = error.status
                self._transport.write(error_responses.encode(error, self._error_body))
        else:
            answer = error_responses.encode(error, self._error_body)
            self._transport.write(answer)
            method = self.parser.get_method().decode("ascii") if self.url else ""
            path = self.url.partition(b"?")[0].decode("latin-1")
            log_request(method, path, error.status, seconds=self._head_s, sent_bytes=len(answer), quiet=self._quiet)
        self._end()

    def _end(self) -> None:
        """Send all answers, then close. If more of a request may follow, read and drop it for a while first."""
        if self._is_lost or self._transport.is_ending:
            return
        self._transport.release()
        self._transport.is_ending = True
        self._connections.mark_idle(self)
        transport = self._transport.inner
        is_mid_request = self._ignores_input or not self._in_head or self._head_bytes
        if is_mid_request and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()
            self.flow.resume_reading()
        else:
            transport.close()
