"""Records of documents: taken in, read and deleted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ingestion.model import Document


class Uploads(Protocol):
    """Takes documents in."""

    async def reserve_page_keys(self, count: int) -> int:
        """Reserve `count` consecutive page keys for good and return the first. Twice reserves two ranges."""

    async def insert(self, document: Document) -> bool:
        """Insert as `received` with the outbox pending; False, and nothing changed, where the id exists."""


class DocumentReader(Protocol):
    async def get(self, document_id: str) -> Document | None: ...

    async def list(
        self,
        collection: str | None = None,
        *,
        tenant: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Document]:
        """Documents that are not deleted, in the order of their ids, from after the id `after`.

        Those of one collection, or else of one tenant, or else all.
        """

    async def known(self, document_ids: Collection[str]) -> dict[str, Document]:
        """Those of `document_ids` that have a record, in any state."""

    async def ready_documents(self, document_ids: Collection[str]) -> dict[str, Document]:
        """Those of `document_ids` that are `ready`, with the state read from the primary."""


class Deletions(Protocol):
    async def begin_delete(self, document_id: str) -> Document:
        """Any state becomes `deleting`, and the fence grows, so that late writes of a worker are refused.

        Safe to repeat. Raises NotFound, CollectionArchived where it is frozen for an archive, Conflict where it came
        back at the same moment.
        """

    async def remove(self, document: Document) -> None:
        """Delete the record and its pages: the last step of a delete. A missing record is no error.

        Raises Conflict where the deletion has not begun, or the same file has been uploaded again.
        """


class Pingable(Protocol):
    async def ping(self) -> None:
        """Return once the server has answered."""
