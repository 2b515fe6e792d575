"""Which addresses a webhook may reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from ingestion.errors import BadRequest

_MOST_URL_CHARS: Final = 2_000
_NAT64: Final = ip_network("64:ff9b::/96")
_OF_CLOUDS: Final = frozenset({ip_address("168.63.129.16")})
"""Addresses that look public and lead to a cloud's own services: Azure's."""


def is_public(address: str) -> bool:
    """False for a loopback, private, link-local, shared, multicast or reserved address, and for no address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = _embedded(found)
    return (
        found.is_global
        and not found.is_multicast
        and found not in _OF_CLOUDS
        and (inner is None or is_public(str(inner)))
    )


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def check_url(url: str, *, allow_private: bool) -> str:
    """Return `url`. Raises BadRequest for an address that no delivery can be sent to.

    A host name is resolved and checked at each delivery, not here.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"the url cannot be read: {error}") from error
    if len(url) > _MOST_URL_CHARS or not url.isascii() or any(one <= " " or one == "\x7f" for one in url):
        raise BadRequest(f"the url must be at most {_MOST_URL_CHARS} printable ASCII characters")
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise BadRequest("the url must begin with https://")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise BadRequest("the url must name a host, and must have no user, password or fragment")
    if not allow_private and (host == "localhost" or _is_address(host)) and not is_public(host):
        raise BadRequest(f"the url leads to {host}, which is not a public address")
    return url


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
