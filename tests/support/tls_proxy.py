"""A TLS server in front of a server without TLS, and the certificates for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme

_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Certificates:
    """An authority of the test, and server certificates by name: good, expired, otherhost."""

    cafile: Path
    stranger: Path
    """Another authority, which has signed none of them."""
    servers: dict[str, Path]


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
    authority.cert_pem.write_to_path(folder / "ca.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    return Certificates(folder / "ca.pem", folder / "stranger.pem", servers)


@asynccontextmanager
async def tls_proxy(server: str, certificate: Path, *, alpn: tuple[str, ...] = ()) -> AsyncIterator[int]:
    """Yield the port of localhost on which `server`, "host:port", is reached through TLS."""
    host, _, port = server.rpartition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    if alpn:
        context.set_alpn_protocols(list(alpn))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            behind_reader, behind_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))

    listening = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
