"""A TCP proxy before one server. It passes bytes on, refuses connections, or answers like a full disk."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 64 * 1024
_FULL: Final = b"<Error><Code>XMinioStorageFull</Code><Message>Storage backend is full.</Message></Error>"
_FULL_ANSWER: Final = (
    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)


class NetworkFault(Enum):
    NONE = auto()
    REFUSED = auto()
    """Connections end, and new ones are refused."""
    DISK_FULL = auto()
    """Each HTTP PUT is answered like an object store whose disk is full (507)."""


class Proxy:
    """Listens on `address`, "host:port", for the server at `upstream`. An async context manager."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._fault = NetworkFault.NONE
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._reservation = _bound(0)  # keeps the port while nothing listens
        self.address = f"{_HOST}:{self._reservation.getsockname()[1]}"

    async def __aenter__(self) -> Self:
        await self.impose(NetworkFault.NONE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.impose(NetworkFault.REFUSED)
        self._reservation.close()

    async def impose(self, fault: NetworkFault) -> None:
        """Replace the current fault, for existing connections too."""
        self._fault = fault
        if fault is NetworkFault.NONE and self._listener is not None:
            return
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()
        if fault is not NetworkFault.REFUSED:
            port = int(self.address.rpartition(":")[2])
            self._listener = await asyncio.start_server(self._serve, sock=_bound(port))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        server: asyncio.StreamWriter | None = None
        try:
            server_reader, server = await asyncio.open_connection(*self._upstream)
            self._writers.add(server)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_up(reader, server, writer))
                tasks.create_task(_pass_on(server_reader, writer))
        except* OSError:
            pass  # one side has gone
        finally:
            for one in (writer, server):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    async def _send_up(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if self._fault is NetworkFault.DISK_FULL and chunk.startswith(b"PUT "):
                client.write(_FULL_ANSWER)
                await client.drain()
                while await reader.read(_CHUNK_BYTES):  # a close before the client reads could lose the answer
                    pass
                break
            server.write(chunk)
            await server.drain()
        with suppress(OSError):
            server.write_eof()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((_HOST, port))
    return bound
