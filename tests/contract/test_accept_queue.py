"""New connections while the event loop is busy."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from ingestion.http.limits import accept_queue
from ingestion.http.server import HttpServer
from ingestion.settings import HttpSettings
from tests.support.raw_http import DEADLINE_S, FakeApp
from tests.support.waiting import wait_until

CLIENTS = 400
_ESTABLISHED = 1
_TCP_INFO_BYTES = 104


@dataclass
class BusyServer:
    """A server on uvloop, in a thread."""

    port: int
    loop: asyncio.AbstractEventLoop

    def block(self) -> Callable[[], None]:
        """Hold the event loop until the function that is returned is called."""
        blocked, released = threading.Event(), threading.Event()

        def hold() -> None:
            blocked.set()
            released.wait(DEADLINE_S)

        self.loop.call_soon_threadsafe(hold)
        assert blocked.wait(DEADLINE_S)
        return released.set


@pytest.fixture
def server() -> Iterator[BusyServer]:
    started: list[tuple[asyncio.AbstractEventLoop, HttpServer]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def run() -> None:
            front = HttpServer(FakeApp(), HttpSettings())
            started.append((asyncio.get_running_loop(), front))
            await front.run([listener], with_signals=False)

        thread = threading.Thread(target=uvloop.run, args=(run(),))
        thread.start()
        wait_until(lambda: started and started[0][1].server.started, DEADLINE_S)
        loop, front = started[0]
        try:
            yield BusyServer(listener.getsockname()[1], loop)
        finally:
            front.server.should_exit = True
            thread.join(DEADLINE_S)


def tcp_state(client: socket.socket) -> int:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)[0]


def repeated_packets(client: socket.socket) -> int:
    """tcpi_total_retrans of Linux."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int.from_bytes(info[100:104], "little")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's TCP_INFO")
def test_no_connection_request_is_dropped_while_the_event_loop_is_busy(server: BusyServer) -> None:
    release = server.block()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(CLIENTS)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", server.port))
        wait_until(lambda: all(tcp_state(one) == _ESTABLISHED or repeated_packets(one) for one in clients), DEADLINE_S)
        release()
        assert [repeated_packets(client) for client in clients] == [0] * CLIENTS


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_loop_accepts_no_more_connections_in_a_turn_than_are_reserved(run: Any) -> None:
    made: list[int] = []

    class Connected(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(len(list(Path("/proc/self/fd").iterdir())))

    async def accept_all(clients: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        queue = accept_queue(loop)
        server = await loop.create_server(Connected, "127.0.0.1", 0, backlog=queue.length)
        for client in clients:  # The loop does not run meanwhile.
            client.connect(server.sockets[0].getsockname())
        before = len(list(Path("/proc/self/fd").iterdir()))
        async with asyncio.timeout(DEADLINE_S):
            while len(made) < len(clients):
                await asyncio.sleep(0)
        server.close()
        assert made[0] - before <= queue.per_turn

    with ExitStack() as stack:
        run(accept_all([stack.enter_context(socket.socket()) for _ in range(100)]))
