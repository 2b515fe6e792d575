"""All connections of a server: how many there may be, and which one has to go for another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final, Protocol

from ingestion import metrics
from ingestion.http.limits import SPARE_CONNECTIONS, HttpLimits

_LOOKED_AT: Final = 16
"""Waiting connections that are looked at when one has to go, the longest waiting first."""


class Connection(Protocol):
    """What the limits need to know of a connection."""

    def has_unsent(self) -> bool:
        """Part of an answer has not been taken by the peer."""

    def drop(self) -> None:
        """Close now. `Connections.lost` follows."""

    def tick(self, elapsed_s: float) -> None:
        """`elapsed_s` have passed: end what has used up its time."""


class Place(Enum):
    """What a new connection gets."""

    NORMAL = "normal"
    SPARE = "spare"
    """All places are taken by connections at work. Probes are still answered."""
    NONE = "none"


@dataclass(slots=True, eq=False)
class _Group:
    """Connections from one address, or all."""

    limit: int
    address: str = ""
    open: int = 0
    waiting: OrderedDict[Connection, None] = field(default_factory=OrderedDict)
    """Those without a request, the longest waiting first."""

    def longest_waiting(self) -> Connection | None:
        looked_at = islice(self.waiting, _LOOKED_AT)
        return next((one for one in looked_at if not one.has_unsent()), None)


class Connections:
    """Counts connections, in all and by address. A new one takes the place of the one that has waited longest."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._all = _Group(limits.max_connections)
        self._by_address: dict[str, _Group] = {}
        self._groups: dict[Connection, tuple[_Group, ...]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._groups))

    def made(self, connection: Connection, host: str) -> Place:
        """Count `connection`, which waits for its first request, unless it gets no place.

        Where a limit is reached, another connection that waits is dropped.
        """
        groups = self._groups_of(host)
        for group in groups:
            if group.open >= group.limit and (oldest := group.longest_waiting()):
                metrics.HTTP_ENDED.labels("replaced").inc()
                self.lost(oldest)
                oldest.drop()
        if self._all.open >= self._all.limit + SPARE_CONNECTIONS:
            metrics.HTTP_ENDED.labels("no_place").inc()
            return Place.NONE
        self._groups[connection] = groups
        for group in groups:
            group.open += 1
            group.waiting[connection] = None
            if group.address:
                self._by_address[group.address] = group
        metrics.HTTP_CONNECTIONS.set(len(self))
        return Place.SPARE if self.is_over(connection) else Place.NORMAL

    def lost(self, connection: Connection) -> None:
        """The connection is closed. Safe to repeat."""
        for group in self._groups.pop(connection, ()):
            group.open -= 1
            group.waiting.pop(connection, None)
            if not group.open:
                self._by_address.pop(group.address, None)
        metrics.HTTP_CONNECTIONS.set(len(self))

    def busy(self, connection: Connection) -> None:
        """A request has come in."""
        for group in self._groups.get(connection, ()):
            group.waiting.pop(connection, None)

    def waits(self, connection: Connection) -> None:
        """The request is answered, or the connection is ending."""
        for group in self._groups.get(connection, ()):
            group.waiting[connection] = None

    def is_over(self, connection: Connection) -> bool:
        """Whether there are more connections than the limit, in all or from the address of `connection`."""
        return any(group.open > group.limit for group in self._groups.get(connection, ()))

    def tick(self, elapsed_s: float) -> None:
        for connection in self:
            connection.tick(elapsed_s)

    def _groups_of(self, host: str) -> tuple[_Group, ...]:
        address = self.limits.counted_as(host)
        if address is None:
            return (self._all,)
        known = self._by_address.get(address)
        return (known or _Group(self.limits.max_per_address, address), self._all)
