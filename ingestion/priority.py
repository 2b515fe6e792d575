"""The priority of a document. In a module of its own, because the command line imports it at every start."""

from __future__ import annotations

from enum import StrEnum


class Priority(StrEnum):
    INTERACTIVE = "interactive"
    """A person waits for the document."""
    BULK = "bulk"

    @classmethod
    def known(cls, name: object) -> Priority | None:
        """Return the priority of that name. None for one that only a newer release knows."""
        return next((one for one in cls if one.value == name), None)
