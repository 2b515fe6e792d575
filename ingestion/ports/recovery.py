"""The documents and versions that a crash or an outage has left half done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.model import Document, StaleKind


class Recovery(Protocol):
    async def stale(
        self, kind: StaleKind, age_s: float, limit: int, *, collection: str | None = None
    ) -> Sequence[Document]:
        """Return documents that have been in the state of `kind` for longer than `age_s`, oldest first.

        The age counts from the last change, or from the end of a lease or of a wait if that is later.
        """

    async def expire(self, document_id: str, fence: int) -> bool:
        """End an expired lease: `processing` becomes `queued`, the outbox pending. The attempt stays counted.

        Returns False, and changes nothing, if the fence has moved on or the lease still runs.
        """

    async def unreadable(self, collection: str | None = None) -> dict[str, int]:
        """Return the number of documents in each state that this release does not know."""

    async def settle_changes(self) -> int:
        """Give collections with an interrupted change a version again. Returns the number of those changes."""
