"""Flows: the waiting documents of one tenant and one priority. Workers take turns between flows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ingestion.errors import BadRequest
from ingestion.priority import Priority

SHARES: Final[Mapping[Priority, int]] = {Priority.INTERACTIVE: 4, Priority.BULK: 1}
"""Pages of each priority while both wait: bulk gets at least a fifth."""
_SEPARATOR: Final = ":"


def check_priority(name: str) -> Priority:
    """Return the priority. Raises BadRequest for an unknown name."""
    priority = Priority.known(name)
    if priority is None:
        known = " or ".join(repr(one.value) for one in Priority)
        raise BadRequest(f"priority {name[:60]!r} is not known; it must be {known}")
    return priority


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    priority: Priority
    tenant: str

    @property
    def name(self) -> str:
        """The name in records."""
        return f"{self.priority.value}{_SEPARATOR}{self.tenant}"

    @classmethod
    def named(cls, name: str) -> Flow | None:
        """Return the flow of a name in a record. None for a priority that only a newer release knows."""
        priority, _, tenant = name.partition(_SEPARATOR)
        known = Priority.known(priority)
        return cls(known, tenant) if known else None


def waiting_before(flow: Flow, ahead: int, waiting: Mapping[Flow, int]) -> int:
    """The number of documents that begin before one of `flow` that has `ahead` documents of its flow before it.

    `waiting`: the number of waiting documents of the other flows; what is above `ahead` does not count for those of
    the same priority. All documents count as equally long.
    """
    others = {one: number for one, number in waiting.items() if one != flow}
    before = ahead + sum(min(number, ahead) for one, number in others.items() if one.priority is flow.priority)
    turns = (before + 1) * sum(SHARES[one] for one in Priority if one is not flow.priority) // SHARES[flow.priority]
    return before + min(turns, sum(number for one, number in others.items() if one.priority is not flow.priority))
