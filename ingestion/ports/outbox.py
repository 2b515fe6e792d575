"""The outbox: what is still to be published about a document, and what the broker has acknowledged."""

from __future__ import annotations

from typing import Protocol

from ingestion.model import Document


class Outbox(Protocol):
    async def mark_queued(self, document: Document) -> None:
        """The broker has the job: outbox sent, and `received` becomes `queued`. Twice is safe.

        Nothing is changed where the same file has been uploaded again.
        """

    async def mark_dead_letter_sent(self, document_id: str, fence: int) -> None:
        """The broker has the dead letter of the failure under `fence`. No effect once the document has moved on."""

    async def requeue(self, document_id: str, *, fence: int | None = None) -> bool:
        """`failed` becomes `queued` with the outbox pending and no attempts; pages that are stored stay stored.

        False, and nothing changed, where it is not failed, or, with `fence`, where it failed under another one.
        """
