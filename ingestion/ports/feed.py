"""Changes of documents in the order in which they happened, for people who watch."""

from __future__ import annotations

from typing import Protocol

from ingestion.model import Document


class DocumentFeed(Protocol):
    async def changed_since(self, collection: str, since_ms: int, limit: int) -> list[Document]:
        """Documents whose records changed at `since_ms` or later, oldest change first, without their histories.

        Changes of one moment may appear a little later than newer ones: ask again from some seconds before.
        A change of metadata or tags, and a removed record, do not count.
        """

    async def last_change_ms(self, collection: str) -> int:
        """When a document of the collection last changed, in Unix milliseconds of the database. 0: it has none."""

    async def waiting_before(self, document: Document, limit: int) -> int:
        """The number of documents that wait for a worker and begin before this one, as workers take turns.

        Of the document's own flow, those that were uploaded before it. Of each other flow, as many as have a turn
        meanwhile: documents count alike here, whatever their length. It counts no further than `limit`.
        """
