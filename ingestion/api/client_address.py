"""The address of a request's client, for limits by address."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from ingestion.http.limits import Network, address_group

AddressOf = Callable[[Scope], str | None]

_FORWARDING = ("x-forwarded-for", "forwarded")


def address_reader(trusted_proxies: Sequence[str]) -> AddressOf:
    """Return a function that reads the address. Where a trusted proxy sent the request, X-Forwarded-For names it.

    An IPv6 address counts as its network of 64 bits. The result is None where no address is known.
    """
    proxies = tuple(ipaddress.ip_network(one, strict=False) for one in trusted_proxies)

    def read(scope: Scope) -> str | None:
        peer = _peer_of(scope)
        forwarded = Headers(scope=scope).get("x-forwarded-for", "").split(",")
        while peer and _is_in(peer, proxies) and forwarded:
            peer = forwarded.pop().strip()
        return address_group(peer) if peer else None

    return read


def is_private(scope: Scope) -> bool:
    """Whether the client is on a private network, or on this machine, and no proxy stands in between."""
    headers = Headers(scope=scope)
    if any(name in headers for name in _FORWARDING):
        return False
    try:
        return ipaddress.ip_address(_peer_of(scope)).is_private
    except ValueError:  # a Unix socket
        return True


def _peer_of(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
