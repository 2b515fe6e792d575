"""An HTTP server with limits around a small application, and a client that sends single bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ingestion.http.protocol import LimitedProtocol
from ingestion.http.server import HttpServer
from ingestion.settings import HttpSettings

DEADLINE_S = 20.0


@dataclass
class FakeApp:
    """`/echo` answers with the length of its body, `/hold` when `released` is set, `/flood` with more than a socket
    buffers, `/refuse` with 401 before it reads the body, any other path with the path.
    """

    calls: list[str] = field(default_factory=list)
    read_bytes: int = 0
    disconnects: int = 0
    sent_bytes: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        self.calls.append(path)
        if path == "/echo" and not await self._read(receive):
            self.disconnects += 1
            return
        if path == "/hold":
            await self.released.wait()
        status = 401 if path == "/refuse" else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        if path == "/flood":
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
                self.sent_bytes += 65_536
        await send({"type": "http.response.body", "body": f"{path} {self.read_bytes}".encode()})

    async def _read(self, receive: Any) -> bool:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            self.read_bytes += len(message["body"])
            if not message["more_body"]:
                return True


@dataclass
class RunningServer:
    app: FakeApp
    server: HttpServer
    port: int

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RawClient]:
        with socket.socket() as own:
            own.setblocking(False)
            await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", self.port))
            yield RawClient(own)

    def pass_time(self, seconds: float) -> None:
        """Advance the clock of the limits in steps of a second."""
        for _ in range(int(seconds)):
            self.server.connections.tick(1.0)

    def unsent(self) -> bool:
        """True while a client has not read all of an answer."""
        return any(one.has_unsent() for one in self._protocols())

    def paused(self) -> bool:
        """True while the server does not read from a client."""
        return any(one.flow.read_paused for one in self._protocols())

    def waiting_heads(self) -> bool:
        """True while part of a head has arrived."""
        return any(one._head_bytes for one in self._protocols())

    def _protocols(self) -> list[LimitedProtocol]:
        return [one for one in self.server.connections if isinstance(one, LimitedProtocol)]


@dataclass
class RawClient:
    """A connection to the server."""

    socket: socket.socket
    sent_bytes: int = 0
    _unread: bytes = b""

    async def send(self, data: bytes) -> bool:
        """Send all of `data`. False where the server has closed the connection."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await loop.sock_sendall(self.socket, data)
        except ConnectionError:
            return False
        self.sent_bytes += len(data)
        return True

    async def read(self, size: int) -> int:
        """Read `size` bytes, or less where the connection ends."""
        taken = 0
        while taken < size and await self._more():
            taken += len(self._unread)
            self._unread = b""
        return taken

    async def answer(self, *, has_body: bool = True) -> Answer:
        """The next answer. Raises EOFError where the connection ends first."""
        head = (await self._until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if not has_body:
            body = b""
        elif "content-length" in headers:
            body = await self._exactly(int(headers["content-length"]))
        else:
            body = b""
            while size := int(await self._until(b"\r\n"), 16):
                body += (await self._exactly(size + 2))[:-2]
            await self._until(b"\r\n")
        return Answer(int(first.split()[1]), headers, body)

    async def is_closed(self) -> bool:
        """Wait until the server closes the connection. False where it sends more."""
        return not self._unread and not await self._more()

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            if not await self._more():
                raise EOFError
        return await self._exactly(self._unread.index(mark) + len(mark))

    async def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            if not await self._more():
                raise EOFError
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    async def _more(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                more = await asyncio.get_running_loop().sock_recv(self.socket, 65_536)
                self._unread += more
                return bool(more)
        return False


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])

    @property
    def is_last(self) -> bool:
        return self.headers.get("connection") == "close"


async def eventually(condition: Callable[[], object]) -> None:
    """Return when `condition()` is true."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running_server(app: FakeApp | None = None, **limits: Any) -> AsyncIterator[RunningServer]:
    """A running server of `app`. `limits` are settings without the prefix `http_`. `pass_time` advances its clock."""
    app = app or FakeApp()
    server = HttpServer(app, HttpSettings(**{f"http_{name}": value for name, value in limits.items()}), grace_s=1)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        running = asyncio.create_task(server.run([listener], with_signals=False))
        try:
            await eventually(lambda: server.server.started)
            yield RunningServer(app, server, listener.getsockname()[1])
        finally:
            app.released.set()
            server.server.should_exit = True
            await running
