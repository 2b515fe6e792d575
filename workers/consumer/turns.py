"""Whose turn it is: start-time fair queueing between priorities, and between the tenants of a priority.

Each flow has a virtual time, which grows by the pages that it was served, divided by its share. The waiting flow with
the lowest one is next. A flow that begins to wait starts at the virtual time of the flow that was served last: it gets
no credit for the time in which it had nothing to do, and it waits for no backlog of other flows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from ingestion.model import SHARES, Flow, Priority

KeyT = TypeVar("KeyT")


class Turns:
    """Chooses between flows. Not thread-safe."""

    def __init__(self, shares: Mapping[Priority, int] = SHARES) -> None:
        self._shares = shares
        self._priorities: _Rotation[Priority] = _Rotation()
        self._tenants: dict[Priority, _Rotation[str]] = {priority: _Rotation() for priority in shares}

    def next_of(self, waiting: Collection[Flow]) -> Flow:
        """Return the flow of `waiting`, which is not empty, that is next. It changes nothing."""
        present = {flow.priority for flow in waiting}
        priority = self._priorities.next_of([one for one in self._shares if one in present])
        tenants = sorted(flow.tenant for flow in waiting if flow.priority is priority)
        return Flow(priority, self._tenants[priority].next_of(tenants))

    def charge(self, flow: Flow, pages: int) -> None:
        """`flow` was served `pages` pages."""
        self._priorities.charge(flow.priority, pages / self._shares[flow.priority])
        self._tenants[flow.priority].charge(flow.tenant, pages)


class _Rotation(Generic[KeyT]):
    """Virtual times. Keys that are not behind the present one are not kept."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ends: dict[KeyT, float] = {}

    def next_of(self, keys: Collection[KeyT]) -> KeyT:
        """The key that is next; the first of several."""
        return min(keys, key=self._start)

    def charge(self, key: KeyT, cost: float) -> None:
        self._now = max(self._now, self._start(key))
        end = self._start(key) + cost
        self._ends = {one: at for one, at in self._ends.items() if at > self._now} | {key: end}

    def _start(self, key: KeyT) -> float:
        return max(self._now, self._ends.get(key, 0.0))
