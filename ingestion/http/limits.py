"""How much of the server a connection may take, and for how long."""

from __future__ import annotations

import ipaddress
import resource
from dataclasses import dataclass
from typing import Final

from ingestion.settings import HttpSettings

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and header fields together. nginx and Apache accept less."""
MAX_HEADER_FIELDS: Final = 256
MAX_FRAMING_BYTES: Final = 64 * 1024
"""What a chunked body may hold beside its data, before it is compared with the data; also the trailer fields."""
MAX_PIPELINED: Final = 16
"""Requests of one connection that wait for the answer to an earlier one."""
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 8 * 1024 * 1024
"""For so long, and for so many bytes, a connection that has had its last answer is still read, so that the sender
gets to see the answer: closing a socket with unread data resets the connection."""
BACKLOG: Final = 128
"""Connections that the kernel has accepted; the event loop takes as many at once before any of them is counted."""
SPARE_CONNECTIONS: Final = 32
"""Beyond the limit, for probes and metrics alone."""
_OWN_DESCRIPTORS: Final = 192
"""Of this process's own: connections to stores, pipes of child processes, log files."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class HttpLimits:
    max_connections: int
    max_per_address: int
    header_timeout_s: float
    keep_alive_s: float
    stall_s: float
    min_bytes_per_s: int
    trusted_proxies: tuple[Network, ...]

    def counted_as(self, host: str) -> str | None:
        """The name under which connections from `host` are counted together; None where they are not."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:  # no address: a socket in the file system
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if any(address in network for network in self.trusted_proxies):
            return None
        if isinstance(address, ipaddress.IPv6Address):  # a subscriber has at least a /64
            return str(ipaddress.IPv6Network((address.packed[:8] + bytes(8), 64)))
        return str(address)


def limits_of(settings: HttpSettings, *, descriptors_each: int) -> HttpLimits:
    """The limits that `settings` ask for and the open-file limit of this process permits.

    `descriptors_each` is what a connection may hold open, its socket included. Raises the soft limit of open files,
    never the hard one.
    """
    wanted = _OWN_DESCRIPTORS + BACKLOG + SPARE_CONNECTIONS + settings.http_max_connections * descriptors_each
    connections = min(settings.http_max_connections, connections_within(_open_files(wanted), descriptors_each))
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


def connections_within(open_files: int, descriptors_each: int) -> int:
    """How many connections leave the process its own descriptors, of `open_files` in all; 1 at least."""
    return max(1, (open_files - _OWN_DESCRIPTORS - BACKLOG - SPARE_CONNECTIONS) // descriptors_each)


def _open_files(wanted: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, wanted)
    if soft < wanted and soft < hard:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


class Allowance:
    """Time that a peer may let pass without progress. Bytes that move win time back, up to the full allowance.

    A peer that keeps to `min_bytes_per_s` never uses it up; one that is slower does in the end; one that stalls may do
    so for `full_s`.
    """

    __slots__ = ("_full_s", "_left_s", "_s_per_byte")

    def __init__(self, full_s: float, min_bytes_per_s: int) -> None:
        self._full_s = full_s
        self._left_s = full_s
        self._s_per_byte = 1 / min_bytes_per_s

    def spend(self, elapsed_s: float, moved_bytes: int) -> bool:
        """Whether the allowance is used up, `elapsed_s` later and with `moved_bytes` moved meanwhile."""
        self._left_s = min(self._full_s, self._left_s - elapsed_s + moved_bytes * self._s_per_byte)
        return self._left_s <= 0

    def renew(self) -> None:
        self._left_s = self._full_s
