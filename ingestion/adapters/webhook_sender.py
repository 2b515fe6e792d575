"""Sends webhooks over HTTPS. The address that is checked is the address that is connected to.

A host name may lead to a public address when it is checked, and to a private one a moment later. So the name is
resolved once for each connection, each address is checked, and the connection is made to one of them. TLS still checks
the certificate for the name. Redirects are answers like others: they are not followed. Proxies of the environment are
not used: a proxy would connect to addresses that were not checked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

import httpcore

from ingestion.model import Webhook, WebhookDelivery
from ingestion.settings import WebhookSettings
from ingestion.webhooks.addresses import is_public
from ingestion.webhooks.signature import signature_headers

_FAULTS: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)
_SUCCESS: Final = range(200, 300)
_MOST_ERROR_CHARS: Final = 200


class AddressRefused(Exception):
    """The host name leads to an address that webhooks may not reach."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves names itself, and connects only to public addresses, unless private ones are allowed."""

    def __init__(self, *, allow_private: bool, inner: httpcore.AsyncNetworkBackend | None = None) -> None:
        self._allow_private = allow_private
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressRefused where one of the addresses is not public, OSError for an unknown name."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if not self._allow_private and (refused := [one for one in addresses if not is_public(one)]):
            raise AddressRefused(f"{host} leads to {refused[0]}, which is not a public address")
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of httpcore
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("webhooks use no Unix sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class HttpWebhookSender:
    """Implements the port WebhookSender. Each attempt has a connection of its own. No body is read."""

    def __init__(self, settings: WebhookSettings, network: httpcore.AsyncNetworkBackend | None = None) -> None:
        self._timeout_s = settings.webhook_timeout_s
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=settings.webhook_cafile),
            max_connections=None,  # the deliverer limits them
            max_keepalive_connections=0,
            network_backend=network or CheckedNetwork(allow_private=settings.webhook_allow_private),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def send(self, webhook: Webhook, delivery: WebhookDelivery) -> str:
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._post(webhook, delivery)
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s"
        except AddressRefused as error:
            return str(error)[:_MOST_ERROR_CHARS]
        except (*_FAULTS, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}".rstrip(": ")[:_MOST_ERROR_CHARS]
        return "" if status in _SUCCESS else f"the endpoint answered {status}"

    async def _post(self, webhook: Webhook, delivery: WebhookDelivery) -> int:
        body = delivery.body.encode()
        headers = {
            "content-type": "application/json",
            "user-agent": "pagemill-webhooks",
            **signature_headers(webhook.secret, delivery.event_id, int(time.time()), body),
        }
        async with self._pool.stream("POST", webhook.url, headers=[*headers.items()], content=body) as response:
            return int(response.status)
