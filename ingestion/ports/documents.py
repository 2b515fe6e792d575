"""Records of documents: taken in, read and deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ingestion.filters import Filter
from ingestion.model import Document, Metadata


class Uploads(Protocol):
    """Takes documents in."""

    async def reserve_page_keys(self, count: int) -> int:
        """Reserve `count` consecutive page keys for good and return the first. Twice reserves two ranges."""

    async def insert(self, document: Document) -> bool:
        """Insert as `received` with the outbox pending; False, and nothing changed, where the id exists."""

    async def with_content(self, collection: str, sha256: str) -> Document | None:
        """The first document of the collection with these bytes that is not being deleted or replaced."""


class DocumentReader(Protocol):
    async def get(self, document_id: str) -> Document | None: ...

    async def list(
        self,
        collection: str | None = None,
        *,
        tenant: str | None = None,
        limit: int = 100,
        after: str | None = None,
        where: Filter | None = None,
    ) -> list[Document]:
        """Documents that are not deleted, in the order of their ids, from after the id `after`.

        Those of one collection, or else of one tenant, or else all.
        `where`: only those for which it holds. It needs a collection; raises BadRequest without one.
        """

    async def count(self, collection: str, where: Filter) -> int:
        """The number of documents that `list` would return without a limit."""

    async def known(self, document_ids: Collection[str]) -> dict[str, Document]:
        """Those of `document_ids` that have a record, in any state."""

    async def ready_documents(self, document_ids: Collection[str]) -> dict[str, Document]:
        """Those of `document_ids` that are `ready`, with the state read from the primary."""


class MetadataRecords(Protocol):
    async def change_metadata(self, known: Document, metadata: Metadata, tags: Sequence[str]) -> bool:
        """Replace metadata and tags of the document, and change the collection's version before and after.

        Returns False, and changes nothing, where they are no longer those of `known`, or the document is deleted,
        frozen, or was uploaded again.
        """


class Deletions(Protocol):
    async def begin_delete(self, document_id: str, *, first_page_key: int | None = None) -> Document:
        """Any state becomes `deleting`, and the fence grows, so that late writes of a worker are refused.

        Older versions of the document's key are marked as replaced before, so that none of them becomes visible again.
        `first_page_key`: only this upload of the file.

        Safe to repeat. Raises NotFound, CollectionArchived where it is frozen for an archive, Conflict where it came
        back at the same moment, or is another upload.
        """

    async def remove(self, document: Document) -> None:
        """Delete the record and its pages: the last step of a delete. A missing record is no error.

        Raises Conflict where the deletion has not begun, or the same file has been uploaded again.
        """


class Pingable(Protocol):
    async def ping(self) -> None:
        """Return once the server has answered."""
