"""Servers that accept connections and then do not answer, reset them, or answer very slowly."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_TRICKLE_EVERY_S: Final = 0.05


@dataclass
class FakeServer:
    """Counts connections, and connections on which a client has sent something."""

    answer: Callable[[socket.socket, threading.Event], None]
    connections: int = 0
    requests: int = 0
    open: set[socket.socket] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                self.open.add(client)
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError):
            if client.recv(65536):
                self.requests += 1
                self.answer(client, self.stopping)
        client.close()
        self.open.discard(client)


def says_nothing(client: socket.socket, stopping: threading.Event) -> None:
    while client.recv(65536):  # until the client closes the connection
        pass


def cuts_off(client: socket.socket, stopping: threading.Event) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def trickles(client: socket.socket, stopping: threading.Event) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not stopping.wait(_TRICKLE_EVERY_S):
        client.sendall(b"x")


@contextmanager
def fake_server(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[FakeServer]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = FakeServer(answer)
    server.address = f"127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for client in list(server.open):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        thread.join(10)
