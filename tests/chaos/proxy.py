"""TCP proxies between workers and servers that pass bytes on or inject network faults.

They run on an event loop in their own thread: synchronous tests can use them, and a busy test does not slow them.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 64 * 1024
_CALL_TIMEOUT_S: Final = 10.0
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: close() sends RST."""
_FRAME_LENGTH: Final = struct.Struct(">i")
_FULL: Final = b"<Error><Code>XMinioStorageFull</Code><Message>Storage backend is full.</Message></Error>"
_FULL_HEAD: Final = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Type: application/xml\r\nConnection: close\r\n"
_LOST = (OSError, asyncio.IncompleteReadError)


@dataclass(frozen=True, slots=True)
class Fault:
    """The faults of a proxy. All that are set apply."""

    refused: bool = False
    """Refuse new connections and reset existing ones."""
    silent: bool = False
    """Accept connections, but pass no byte on until the fault is over."""
    delay_s: float = 0.0
    """Delay of each chunk, in each direction."""
    bytes_per_s: float = 0.0
    """Throughput per connection and direction; 0 means unlimited."""
    reset_after_bytes: int = 0
    """Reset each connection after a random number of bytes, uniform from 0 to twice this; 0 means never."""
    disk_full: bool = False
    """Answer every HTTP PUT like an object store whose disk is full (507)."""


PASS: Final = Fault()
REFUSED: Final = Fault(refused=True)
SILENT: Final = Fault(silent=True)
DISK_FULL: Final = Fault(disk_full=True)


@dataclass(frozen=True, slots=True)
class Tripwire:
    """Calls `action` with the client's port when a client sends `pattern` in one piece, until it returns True.

    `action` runs in the proxies' thread. `before`: call it before the bytes go to the server, otherwise after.
    """

    pattern: bytes
    action: Callable[[int], bool]
    before: bool


class Proxies:
    """The thread of the proxies. A context manager that closes them at its end."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for proxy in self._proxies:
            proxy.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def to(self, address: str, *, is_kafka: bool = False) -> Proxy:
        """A proxy in front of `address`, "host:port"."""
        host, _, port = address.rpartition(":")
        proxy = Proxy(self, host, int(port), is_kafka=is_kafka)
        self._proxies.append(proxy)
        return proxy

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the proxies' event loop. Call it from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_TIMEOUT_S)


class Proxy:
    """Listens on `port` of 127.0.0.1 for one server.

    A Kafka broker tells its clients its address. `is_kafka` replaces that address with the proxy's in every answer;
    both addresses have the same number of bytes.
    """

    def __init__(self, proxies: Proxies, host: str, port: int, *, is_kafka: bool) -> None:
        self._proxies = proxies
        self._host, self._server_port = host, port
        self._connections: set[_Connection] = set()
        self._wires: list[Tripwire] = []
        self._listener: asyncio.Server | None = None
        self.broken_off = 0
        """Connections that ended with an error."""
        self.sent_bytes = 0
        """Bytes from the server to its clients."""
        self._fault = PASS
        self._passing = asyncio.Event()
        self._random = random.Random(port)
        # Bound but not listening: keeps the port and refuses connections.
        self._reservation = _bound_socket(0)
        self.port: int = self._reservation.getsockname()[1]
        self.address = f"{_HOST}:{self.port}"
        self._replaced = (_advertised(host, port), _advertised(host, self.port)) if is_kafka else None
        self.impose(PASS)

    def impose(self, fault: Fault) -> None:
        """Replace the current fault with `fault`, for existing connections too."""
        self._proxies.call(self._impose(fault))

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """Inject `fault` during the block."""
        self.impose(fault)
        try:
            yield
        finally:
            self.impose(PASS)

    def watch(self, wire: Tripwire) -> None:
        """Add `wire` to the set ones."""
        self._wires.append(wire)

    def unwatch(self, wire: Tripwire) -> None:
        """Remove `wire` if it has not fired."""
        with suppress(ValueError):
            self._wires.remove(wire)

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self.impose(REFUSED)
        self._proxies.call(self._idle())
        self._reservation.close()

    async def _idle(self) -> None:
        while self._connections:
            await asyncio.sleep(0.01)

    async def _impose(self, fault: Fault) -> None:
        self._fault = fault
        if fault.silent:
            self._passing.clear()
        else:
            self._passing.set()
        for connection in list(self._connections):
            connection.allow(self._allowance())
            if fault.refused:
                connection.reset()
        if fault.refused and self._listener is not None:
            self._listener.close()
            self._listener = None
        elif not fault.refused and self._listener is None:
            self._listener = await asyncio.start_server(self._serve, sock=_bound_socket(self.port), backlog=128)

    def _allowance(self) -> float:
        """Bytes that a new connection may carry before its reset."""
        mean = self._fault.reset_after_bytes
        return self._random.uniform(0, 2 * mean) if mean else float("inf")

    async def _serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(self._host, self._server_port)
        except OSError:
            _reset(client_writer)
            return
        connection = _Connection(client_writer, server_writer, self._allowance())
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._upstream(connection, client_reader))
                group.create_task(self._downstream(connection, server_reader))
        except* _LOST:
            self.broken_off += 1
            connection.reset()
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _upstream(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._hold(chunk)
            if self._fault.disk_full and chunk.startswith(b"PUT "):
                await connection.send(
                    connection.client, _FULL_HEAD + b"Content-Length: %d\r\n\r\n" % len(_FULL) + _FULL
                )
                while await reader.read(_CHUNK_BYTES):  # a close before the client reads could lose the answer
                    pass
                break
            tripped = [wire for wire in self._wires if wire.pattern in chunk]
            self._trip(connection, [wire for wire in tripped if wire.before])
            await connection.send(connection.server, chunk)
            self._trip(connection, [wire for wire in tripped if not wire.before])
        connection.server.write_eof()

    def _trip(self, connection: _Connection, wires: list[Tripwire]) -> None:
        for wire in wires:
            if wire in self._wires and wire.action(connection.client_port):
                self.unwatch(wire)

    async def _downstream(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        read = self._read_frame if self._replaced else _read_chunk
        while chunk := await read(reader):
            await self._hold(chunk)
            await connection.send(connection.client, chunk)
            self.sent_bytes += len(chunk)
        connection.client.write_eof()

    async def _read_frame(self, reader: asyncio.StreamReader) -> bytes:
        """One complete answer of the broker, with the proxy's address."""
        assert self._replaced is not None
        try:
            head = await reader.readexactly(_FRAME_LENGTH.size)
        except asyncio.IncompleteReadError as ended:
            if ended.partial:
                raise
            return b""
        body = await reader.readexactly(*_FRAME_LENGTH.unpack(head))
        return head + body.replace(*self._replaced)

    async def _hold(self, chunk: bytes) -> None:
        """Delay `chunk` as the current fault says."""
        fault = self._fault
        wait_s = fault.delay_s + (len(chunk) / fault.bytes_per_s if fault.bytes_per_s else 0.0)
        if wait_s:
            await asyncio.sleep(wait_s)
        await self._passing.wait()


@dataclass(eq=False, slots=True)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    _allowed_bytes: float
    client_port: int = field(init=False)

    def __post_init__(self) -> None:
        self.client_port = self.client.get_extra_info("peername")[1]

    def allow(self, further_bytes: float) -> None:
        self._allowed_bytes = further_bytes

    async def send(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        """Pass `chunk` on. Raises ConnectionResetError after the allowed number of bytes."""
        cut = len(chunk) > self._allowed_bytes
        if cut:
            chunk = chunk[: int(self._allowed_bytes)]
        self._allowed_bytes -= len(chunk)
        writer.write(chunk)
        await writer.drain()
        if cut:
            raise ConnectionResetError("the connection has carried its allowed bytes")

    def reset(self) -> None:
        _reset(self.client)
        _reset(self.server)

    def close(self) -> None:
        self.client.close()
        self.server.close()


async def _read_chunk(reader: asyncio.StreamReader) -> bytes:
    return await reader.read(_CHUNK_BYTES)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((_HOST, port))
    return bound


def _advertised(host: str, port: int) -> bytes:
    """The encoding of an address in Kafka: length and bytes of the host, then the port as int32."""
    return host.encode() + struct.pack(">i", port)
