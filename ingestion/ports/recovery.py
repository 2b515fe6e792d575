"""The documents and versions that a crash or an outage has left half done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.model import Document, StaleKind


class Recovery(Protocol):
    async def stale(
        self, kind: StaleKind, age_s: float, limit: int, *, collection: str | None = None
    ) -> Sequence[Document]:
        """Documents that have been in the state which `kind` names for longer than `age_s`, oldest first.

        The age counts from the last change, or from the end of a lease or of a wait where that is later.
        """

    async def expire(self, document_id: str, fence: int) -> bool:
        """A lease that has run out: `processing` becomes `queued` with the outbox pending; the attempt stays counted.

        False, and nothing changed, where the fence has moved on or the lease still runs.
        """

    async def unreadable(self, collection: str | None = None) -> dict[str, int]:
        """How many documents are in each state that this release does not know."""

    async def settle_changes(self) -> int:
        """Give the collections whose changes were cut off their versions back; the number of those changes."""
