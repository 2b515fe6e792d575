"""Limits of the HTTP server: sizes, times, numbers of connections."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from dataclasses import dataclass
from typing import Final

from ingestion.settings import HttpSettings

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line plus header fields. nginx and Apache accept less."""
MAX_HEADER_FIELDS: Final = 256
MAX_FRAMING_BYTES: Final = 64 * 1024
"""Chunk sizes and extensions that a body may hold on top of half of its data. Also the limit of trailer fields."""
MAX_PIPELINED: Final = 16
"""Requests of one connection that wait for the answer to an earlier request."""
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 8 * 1024 * 1024
"""Time and bytes for which a connection is read after its last answer. Closing a socket with unread data would reset
the connection, and the client might not see the answer."""
RESERVED_CONNECTIONS: Final = 32
"""Connections above the limit that serve probes and metrics only."""
_OWN_DESCRIPTORS: Final = 192
"""Descriptors for other uses: connections to stores, pipes of child processes, log files."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AcceptQueue:
    """New connections that the server has not counted yet."""

    length: int
    """The kernel's queue. It drops a connection request that does not fit, and the client repeats it after 1 s."""
    per_turn: int
    """Connections that the event loop accepts in one turn, before it calls `connection_made` for the first."""


def accept_queue(loop: asyncio.AbstractEventLoop) -> AcceptQueue:
    """uvloop accepts one connection in a turn. asyncio's own loop accepts the whole queue, so its queue is shorter."""
    is_uvloop = type(loop).__module__.partition(".")[0] == "uvloop"
    return AcceptQueue(length=1024, per_turn=1) if is_uvloop else AcceptQueue(length=128, per_turn=128)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    max_connections: int
    max_per_address: int
    header_timeout_s: float
    keep_alive_s: float
    stall_s: float
    min_bytes_per_s: int
    trusted_proxies: tuple[Network, ...]

    def quota_key(self, host: str) -> str | None:
        """The key of the quota for connections from `host`; None where there is no quota by address."""
        address = _address_of(host)
        if address is None or any(address in network for network in self.trusted_proxies):
            return None
        return _group_of(address)


def address_group(host: str) -> str | None:
    """The address, or for IPv6 its network of 64 bits: one subscriber has at least that. None where it is none."""
    address = _address_of(host)
    return None if address is None else _group_of(address)


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a Unix socket
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _group_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address.packed[:8] + bytes(8), 64)))
    return str(address)


def limits_of(settings: HttpSettings, *, descriptors_each: int, accepted_per_turn: int) -> HttpLimits:
    """The limits of `settings`, reduced to what the open-file limit of this process permits.

    `descriptors_each` is the number of descriptors per connection, its socket included. Raises the soft limit of open
    files where it is too low, never the hard limit.
    """
    reserved = _reserved_descriptors(descriptors_each, accepted_per_turn)
    open_files = _open_files(reserved + settings.http_max_connections * descriptors_each)
    most = connections_within(open_files, descriptors_each, accepted_per_turn)
    connections = min(settings.http_max_connections, most)
    per_address = settings.http_max_connections_per_address or max(1, connections // 2)
    return HttpLimits(
        max_connections=connections,
        max_per_address=min(per_address, connections),
        header_timeout_s=settings.http_header_timeout_s,
        keep_alive_s=settings.http_keep_alive_s,
        stall_s=settings.http_stall_s,
        min_bytes_per_s=settings.http_min_bytes_per_s,
        trusted_proxies=tuple(ipaddress.ip_network(one, strict=False) for one in settings.http_trusted_proxies),
    )


def connections_within(open_files: int, descriptors_each: int, accepted_per_turn: int) -> int:
    """The number of connections that `open_files` descriptors permit, after the reserved ones; at least 1."""
    return max(1, (open_files - _reserved_descriptors(descriptors_each, accepted_per_turn)) // descriptors_each)


def _reserved_descriptors(descriptors_each: int, accepted_per_turn: int) -> int:
    return _OWN_DESCRIPTORS + accepted_per_turn + RESERVED_CONNECTIONS * descriptors_each


def _open_files(wanted: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, wanted)
    if soft < wanted and soft < hard:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


class StallTimer:
    """Expires when a peer makes too little progress. Bytes that move give time back, up to `full_s`.

    A peer that keeps `min_bytes_per_s` never expires. A slower peer expires in the end. A stalled peer expires after
    `full_s`.
    """

    __slots__ = ("_full_s", "_left_s", "_s_per_byte")

    def __init__(self, full_s: float, min_bytes_per_s: int) -> None:
        self._full_s = full_s
        self._left_s = full_s
        self._s_per_byte = 1 / min_bytes_per_s

    def tick(self, elapsed_s: float, moved_bytes: int) -> bool:
        """Count `elapsed_s` in which `moved_bytes` moved. True where the timer has expired."""
        self._left_s = min(self._full_s, self._left_s - elapsed_s + moved_bytes * self._s_per_byte)
        return self._left_s <= 0

    def reset(self) -> None:
        self._left_s = self._full_s
