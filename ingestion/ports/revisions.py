"""The versions of a file under one key."""

from __future__ import annotations

from typing import Protocol

from ingestion.model import Document


class Revisions(Protocol):
    """`Ledger.finish` makes a version visible, and marks the older ones of its key as replaced before the collection
    has a version again. If the process dies in between, `Recovery.settle_changes` marks them."""

    async def renew_revision(self, known: Document, revision: int) -> None:
        """The document was accepted again: give it a higher revision.

        No effect where it is replaced, or was uploaded anew.
        """
