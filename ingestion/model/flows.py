"""Flows: the waiting documents of one tenant and one priority. Workers take turns between flows."""

from __future__ import annotations

from dataclasses import dataclass

from ingestion.errors import BadRequest
from ingestion.priority import Priority

_SEPARATOR = ":"


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
