"""TLS to Milvus: which certificates are trusted, which is shown, and why a connection is refused.

gRPC keeps the cause of a failed handshake to itself until a connection has been made once, and tries again without
end. So a handshake of Python's own comes first.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc

from ingestion.adapters.milvus.errors import DEPENDENCY
from ingestion.adapters.tls import refused_certificate
from ingestion.concurrency.deadline import limit_s
from ingestion.errors import DependencyRefused, InvalidSetting
from ingestion.settings import MilvusSettings

_PORT: Final = 443
_HANDSHAKE_TIMEOUT_S: Final = 2.0


def channel_credentials(settings: MilvusSettings) -> grpc.ChannelCredentials:
    """Raises InvalidSetting if a file cannot be read."""
    certificate = _content("CERTFILE", settings.milvus_certfile)
    return grpc.ssl_channel_credentials(
        root_certificates=_content("CAFILE", settings.milvus_cafile),
        private_key=_content("KEYFILE", settings.milvus_keyfile) or certificate,
        certificate_chain=certificate,
    )


def pymilvus_options(settings: MilvusSettings) -> dict[str, object]:
    """Return the arguments of MilvusClient for the same certificates. Raises InvalidSetting if a file is missing."""
    if not settings.milvus_uri.startswith("https:"):
        return {}
    channel_credentials(settings)
    if settings.milvus_certfile is None:
        return {"secure": True, "server_pem_path": str(settings.milvus_cafile)} if settings.milvus_cafile else {}
    if settings.milvus_cafile is None:
        raise InvalidSetting("PAGEMILL_MILVUS_CERTFILE needs PAGEMILL_MILVUS_CAFILE")
    return {
        "secure": True,
        "ca_pem_path": str(settings.milvus_cafile),
        "client_pem_path": str(settings.milvus_certfile),
        "client_key_path": str(settings.milvus_keyfile or settings.milvus_certfile),
    }


def require_accepted(settings: MilvusSettings) -> None:
    """Raises DependencyRefused if the server's certificate is not accepted here, or this client's there.

    Raises InvalidSetting if a file cannot be used.

    A server that does not answer is no error here: the request that follows says so.
    """
    address = urlsplit(settings.milvus_uri)
    if address.scheme != "https" or not address.hostname:
        return
    context = _context(settings)
    try:
        at = (address.hostname, address.port or _PORT)
        with (
            socket.create_connection(at, limit_s(DEPENDENCY, _HANDSHAKE_TIMEOUT_S)) as plain,
            context.wrap_socket(plain, server_hostname=address.hostname) as secured,
        ):
            secured.recv(1)  # the server sends the alert about a client's certificate after the handshake
    except ssl.SSLError as error:
        if cause := refused_certificate(
            error,
            "Milvus",
            address_setting="PAGEMILL_MILVUS_URI",
            ca_setting="PAGEMILL_MILVUS_CAFILE",
            client_setting="PAGEMILL_MILVUS_CERTFILE",
        ):
            raise DependencyRefused(DEPENDENCY, cause) from error
    except OSError:
        return


def _context(settings: MilvusSettings) -> ssl.SSLContext:
    """Raises InvalidSetting if a file has no certificate, or no key that fits it."""
    name, path = "CAFILE", settings.milvus_cafile
    try:
        context = ssl.create_default_context(cafile=path)
        context.set_alpn_protocols(["h2"])
        if settings.milvus_certfile is not None:
            name, path = "CERTFILE", settings.milvus_certfile
            context.load_cert_chain(path, settings.milvus_keyfile)
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"PAGEMILL_MILVUS_{name}: {path} cannot be used: {error}") from error
    return context


def _content(name: str, path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise InvalidSetting(f"PAGEMILL_MILVUS_{name}: {path} cannot be read: {error.strerror}") from error
