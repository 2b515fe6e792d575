"""All connections of a server: limits on their number, and the choice of the connection to close at a limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final, Protocol

from ingestion import metrics
from ingestion.http.limits import RESERVED_CONNECTIONS, HttpLimits

_CANDIDATES: Final = 16
"""Idle connections that are considered for closing, longest idle first."""


class Connection(Protocol):
    """A connection, as far as the limits are concerned."""

    def has_unsent(self) -> bool:
        """True while the peer has not read all of an answer."""

    def drop(self) -> None:
        """Close at once. `Connections.remove` follows."""

    def tick(self, elapsed_s: float) -> None:
        """Count `elapsed_s` of time, and end the connection where a time limit is reached."""


class ConnectionSlot(Enum):
    """The kind of slot that a new connection gets."""

    REGULAR = "regular"
    RESERVED = "reserved"
    """All regular slots are taken by busy connections. A reserved slot serves probes only."""
    NONE = "none"


@dataclass(slots=True, eq=False)
class _Quota:
    """The connections from one address, or all connections."""

    limit: int
    address: str = ""
    open: int = 0
    idle: OrderedDict[Connection, None] = field(default_factory=OrderedDict)
    """Connections without a request, longest idle first."""

    def longest_idle(self) -> Connection | None:
        candidates = islice(self.idle, _CANDIDATES)
        return next((connection for connection in candidates if not connection.has_unsent()), None)


class Connections:
    """Counts connections, in total and by address. At a limit, a new connection replaces the longest idle one."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._all = _Quota(limits.max_connections)
        self._by_address: dict[str, _Quota] = {}
        self._quotas: dict[Connection, tuple[_Quota, ...]] = {}

    def __len__(self) -> int:
        return len(self._quotas)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._quotas))

    def add(self, connection: Connection, host: str) -> ConnectionSlot:
        """Count `connection` as idle, unless the answer is NONE.

        At a limit, the longest idle connection is dropped first.
        """
        quotas = self._quotas_of(host)
        for quota in quotas:
            if quota.open >= quota.limit and (oldest := quota.longest_idle()):
                metrics.HTTP_ENDED.labels("replaced").inc()
                self.remove(oldest)
                oldest.drop()
        if self._all.open >= self._all.limit + RESERVED_CONNECTIONS:
            metrics.HTTP_ENDED.labels("no_place").inc()
            return ConnectionSlot.NONE
        self._quotas[connection] = quotas
        for quota in quotas:
            quota.open += 1
            quota.idle[connection] = None
            if quota.address:
                self._by_address[quota.address] = quota
        metrics.HTTP_CONNECTIONS.set(len(self))
        return ConnectionSlot.RESERVED if self.is_over_limit(connection) else ConnectionSlot.REGULAR

    def remove(self, connection: Connection) -> None:
        """Stop counting a closed connection. Safe to repeat."""
        for quota in self._quotas.pop(connection, ()):
            quota.open -= 1
            quota.idle.pop(connection, None)
            if not quota.open:
                self._by_address.pop(quota.address, None)
        metrics.HTTP_CONNECTIONS.set(len(self))

    def mark_busy(self, connection: Connection) -> None:
        """The connection has a request: it is not replaced."""
        for quota in self._quotas.get(connection, ()):
            quota.idle.pop(connection, None)

    def mark_idle(self, connection: Connection) -> None:
        """The request is answered, or the connection is closing: it may be replaced."""
        for quota in self._quotas.get(connection, ()):
            quota.idle[connection] = None

    def is_over_limit(self, connection: Connection) -> bool:
        """True while there are more connections than the limit, in total or from the address of `connection`."""
        return any(quota.open > quota.limit for quota in self._quotas.get(connection, ()))

    def tick(self, elapsed_s: float) -> None:
        for connection in self:
            connection.tick(elapsed_s)

    def _quotas_of(self, host: str) -> tuple[_Quota, ...]:
        address = self.limits.quota_key(host)
        if address is None:
            return (self._all,)
        known = self._by_address.get(address)
        return (known or _Quota(self.limits.max_per_address, address), self._all)
