"""uvicorn's HTTP/1.1 protocol over httptools, with limits. httptools has none of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingestion import metrics
from ingestion.http import refusals
from ingestion.http.connections import Connections, Place
from ingestion.http.exchange import PROBES, Exchange, log_request
from ingestion.http.framing import Framing
from ingestion.http.limits import (
    LINGER_BYTES,
    LINGER_S,
    MAX_HEAD_BYTES,
    MAX_HEADER_FIELDS,
    MAX_PIPELINED,
    Allowance,
)
from ingestion.http.refusals import Describe, HttpRefusal
from ingestion.http.wire import Wire

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

_PROBES: Final = frozenset(path.encode() for path in PROBES)
_PIECE_BYTES: Final = MAX_HEAD_BYTES
"""The parser is fed in pieces of this size at most, so that a limit is seen before much has been parsed."""


class _Stop(Exception):
    """Ends the parser from within a callback."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. It is in a head, in a body, or waits for the application; `tick` limits the time of each."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
        describe: Describe,
        quiet: bool,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        self._connections = connections
        self._limits = limits = connections.limits
        self._describe = describe
        self._quiet = quiet
        self._place = Place.NORMAL
        self._exchange: Exchange | None = None
        self._refusal: HttpRefusal | None = None
        self._deaf = False
        """What comes in is dropped: the parser has failed, or the last request is there."""
        self._lost = False
        self._in_head = True
        self._head_bytes = 0
        self._messages = 0
        self._framing: Framing | None = None
        self._head_s = 0.0
        self._head_limit_s = limits.header_timeout_s
        self._linger_s = LINGER_S
        self._dropped_bytes = 0
        self._received_bytes = 0
        self._delivered_bytes = 0
        self._sender = Allowance(limits.stall_s, limits.min_bytes_per_s)
        self._reader = Allowance(limits.stall_s, limits.min_bytes_per_s)

    # Of asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._wire = Wire(transport, self._end)
        super().connection_made(self._wire)  # type: ignore[arg-type]
        self._place = self._connections.made(self, self.client[0] if self.client else "")
        if self._place is Place.NONE:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._connections.lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if len(data) <= self._room_bytes() and not self._is_deaf():
            self._feed(data)
            return
        rest = memoryview(data)
        while rest and not self._is_deaf():
            room = self._room_bytes()
            self._feed(rest[:room])
            rest = rest[room:]
        self._dropped_bytes += len(rest)
        if self._dropped_bytes > LINGER_BYTES:
            self._wire.transport.close()

    # Of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_limit_s != self._limits.header_timeout_s:
            self._head_limit_s = self._limits.header_timeout_s
            self._head_s = 0.0

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADER_FIELDS:
            self._stop(refusals.HEAD_TOO_LARGE)
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop(refusals.TOO_MANY_PIPELINED)
        if self._place is Place.SPARE and self._connections.is_over(self) and self.url not in _PROBES:
            self._stop(refusals.NO_PLACE)
        super().on_headers_complete()
        self.headers = []  # Trailer fields go there, and are not the application's.
        self._in_head = False
        self._framing = None
        self._sender.renew()
        self._connections.busy(self)

    def on_body(self, body: bytes) -> None:
        self._delivered_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._messages += 1
        self._in_head = True
        self._head_bytes = 0
        self._head_limit_s = self._limits.keep_alive_s

    # Of the application's side

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._exchange = Exchange(app, cycle, self._wire, self._over, quiet=self._quiet)
        super()._start_asgi_task(cycle, self._exchange)

    def on_response_complete(self) -> None:
        """Instead of uvicorn's, which arms a timer for each answer. `tick` looks after idle connections."""
        self.server_state.total_requests += 1
        if self._wire.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._deaf:
            self._end()
        else:
            self._head_s = 0.0
            self._connections.waits(self)

    def _over(self, exchange: Exchange) -> None:
        """The application has returned. Where it could not answer, no answer ends a connection that is to end."""
        if self._deaf and not self.pipeline and self._exchange is exchange:
            self._end()

    # Limits

    def has_unsent(self) -> bool:
        return self._wire.unsent_bytes() > 0

    def drop(self) -> None:
        self._wire.transport.abort()

    def tick(self, elapsed_s: float) -> None:
        received, self._received_bytes = self._received_bytes, 0
        unsent = self._wire.unsent_bytes()
        taken = self._wire.taken_bytes(unsent)
        if unsent:
            if self._reader.spend(elapsed_s, taken):
                metrics.HTTP_ENDED.labels("slow_reader").inc()
                self.drop()
            return
        self._reader.renew()
        if self._wire.is_ending:
            self._linger_s -= elapsed_s
            if self._linger_s <= 0:
                self._wire.transport.close()
        elif not self._in_head:
            # The sender's time does not run while it may not send.
            is_held_up = self.flow.read_paused or self.cycle.waiting_for_100_continue
            if not is_held_up and self._sender.spend(elapsed_s, received):
                self._refuse(refusals.BODY_TOO_SLOW)
        elif not self._is_answering():
            self._tick_head(elapsed_s)

    def _tick_head(self, elapsed_s: float) -> None:
        self._head_s += elapsed_s
        if self._head_s < self._head_limit_s:
            return
        if self._head_bytes:
            self._refuse(refusals.HEAD_TOO_SLOW)
        else:
            metrics.HTTP_ENDED.labels("idle").inc()
            self._end()

    def _feed(self, piece: bytes | memoryview) -> None:
        was_in_head, messages, delivered = self._in_head, self._messages, self._delivered_bytes
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade:
            # To ignore it is a server's right. What follows the request may be in the other protocol.
            self._deaf = True
            self.cycle.keep_alive = False
            return
        except HttpParserError:
            self._refuse(self._refusal or refusals.MALFORMED)
            return
        if self._messages != messages:
            return  # Of the next message little can be there.
        if self._in_head:
            self._head_bytes += len(piece)
            if self._head_bytes >= MAX_HEAD_BYTES:
                is_address = len(self.url) > MAX_HEAD_BYTES // 2
                self._refuse(refusals.URI_TOO_LONG if is_address else refusals.HEAD_TOO_LARGE)
        elif not was_in_head:
            framing = self._framing = self._framing or Framing()
            if not framing.admits(len(piece), self._delivered_bytes - delivered):
                self._refuse(refusals.FRAMING_TOO_LARGE)

    def _room_bytes(self) -> int:
        return MAX_HEAD_BYTES - self._head_bytes if self._in_head else _PIECE_BYTES

    def _is_deaf(self) -> bool:
        return self._deaf or self._wire.is_ending

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _stop(self, refusal: HttpRefusal) -> NoReturn:
        self._refusal = refusal
        raise _Stop

    def _refuse(self, refusal: HttpRefusal) -> None:
        """End the request that is being read. Earlier ones are answered first."""
        metrics.HTTP_ENDED.labels(refusal.reason).inc()
        self._deaf = True
        if self._is_answering():
            if self._in_head:
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.pipeline:
                return
            if self._exchange and not self.cycle.response_started:
                self._exchange.status = refusal.status
                self._wire.write(refusals.encode(refusal, self._describe))
        else:
            answer = refusals.encode(refusal, self._describe)
            self._wire.write(answer)
            method = self.parser.get_method().decode("ascii") if self.url else ""
            path = self.url.partition(b"?")[0].decode("latin-1")
            log_request(method, path, refusal.status, seconds=self._head_s, sent_bytes=len(answer), quiet=self._quiet)
        self._end()

    def _end(self) -> None:
        """Send what is written, then close; where more of a request may be on its way, after a while."""
        if self._lost or self._wire.is_ending:
            return
        self._wire.is_ending = True
        self._connections.waits(self)
        transport = self._wire.transport
        is_mid_request = self._deaf or not self._in_head or self._head_bytes
        if is_mid_request and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()
            self.flow.resume_reading()
        else:
            transport.close()
