"""A TLS server in front of a server without TLS, and the certificates for it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme

_CHUNK_BYTES: Final = 64 * 1024
_START_S: Final = 10.0


@dataclass(frozen=True)
class Certificates:
    """An authority of the test, and server certificates by name: good, expired, otherhost."""

    cafile: Path
    stranger: Path
    """Another authority, which has signed none of them."""
    servers: dict[str, Path]
    clients: dict[str, Path]
    """Of a client whose authority the servers trust, and of one whose authority they do not know: good, stranger."""


def make_certificates(folder: Path) -> Certificates:
    authority, stranger = trustme.CA(), trustme.CA()
    past = datetime.now(UTC) - timedelta(days=1)
    made = {
        "good": authority.issue_cert("localhost", "127.0.0.1"),
        "expired": authority.issue_cert("localhost", not_before=past - timedelta(days=1), not_after=past),
        "otherhost": authority.issue_cert("server.example"),
    }
    servers = {name: folder / f"{name}.pem" for name in made}
    for name, certificate in made.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(servers[name])
    clients = {"good": folder / "client.pem", "stranger": folder / "strange-client.pem"}
    for name, signer in (("good", authority), ("stranger", stranger)):
        certificate = signer.issue_cert("client@example.org", common_name="pagemill")
        certificate.private_key_and_cert_chain_pem.write_to_path(clients[name])
    authority.cert_pem.write_to_path(folder / "ca.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    return Certificates(folder / "ca.pem", folder / "stranger.pem", servers, clients)


@contextmanager
def tls_proxy(
    server: str, certificate: Path, *, alpn: tuple[str, ...] = (), clients: Path | None = None
) -> Iterator[int]:
    """Yield the port of localhost on which `server`, "host:port", is reached through TLS.

    With `clients`, a file of authorities, it asks each client for a certificate that one of them has signed.

    The proxy has a thread of its own: a client may block the event loop of the test while it closes.
    """
    host, _, port = server.rpartition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    if alpn:
        context.set_alpn_protocols(list(alpn))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            behind_reader, behind_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="TLS proxy", daemon=True)
    thread.start()
    try:
        starting = asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
        listening = asyncio.run_coroutine_threadsafe(starting, loop).result(_START_S)
        yield listening.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result(_START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def tls_server_for_known_clients(certificate: Path, clients: Path) -> Iterator[int]:
    """Yield the port of localhost of a server that accepts only clients with a certificate signed by `clients`.

    It sends the reason of a refusal to the client. A server of asyncio does not.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(clients)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_greet_all, args=(listening, context), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _greet_all(listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        with context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as secured, suppress(OSError):
            try:
                secured.do_handshake()
            except ssl.SSLError:
                # Closed with unread bytes, the connection would be reset, and the alert with it lost.
                secured.shutdown(socket.SHUT_WR)
            while secured.recv(_CHUNK_BYTES):
                pass


async def _end_all() -> None:
    """Cancel the connections and the listener with them."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
