"""Moving records into an archive and back, and the ids of archived documents."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestion.catalogue.states import CollectionRecord


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """A document's record in full, as JSON. `is_ready`: it was ready before it was frozen."""

    id: str
    page_keys: range
    is_ready: bool
    record: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class PackedPage:
    """A page's record in full, as JSON. `rows` is the number of rows that the vector store should hold."""

    page_key: int
    rows: int
    record: str


class Archiving(Protocol):
    async def begin_archive(self, collection: str, token: str, archive_id: str) -> None:
        """An active collection, or one whose archiving has begun, becomes ARCHIVING, under the hold.

        Raises CollectionBusy while it is being re-embedded, LeaseLost.
        """

    async def collections_with_frozen(self) -> Sequence[str]:
        """The collections of frozen documents."""

    async def pack_documents(self, collection: str, *, after: int, limit: int) -> Sequence[PackedDocument]:
        """Frozen documents whose first page key is above `after`, in the order of these keys."""

    async def pack_ready_documents(self, collection: str, *, after: int, limit: int) -> Sequence[PackedDocument]:
        """As `pack_documents`, of ready documents: the collection is in use."""

    async def pack_pages(self, page_keys: range, generation: int) -> Sequence[PackedPage]:
        """The page records that exist, in the order of their keys, with the rows they have in that generation."""

    async def unpack_documents(self, collection: str, archive_id: str, documents: Iterable[str]) -> None:
        """Insert or replace packed records, as documents that are frozen for this archive."""

    async def unpack_pages(self, pages: Iterable[str]) -> None:
        """Insert or replace packed records."""

    async def free_documents(self, collection: str, archive_id: str, limit: int) -> int:
        """Delete pages and records of up to `limit` documents that are frozen for this archive. Returns the number.

        Their ids are first recorded as archived, so that an audit does not report their objects as orphans.
        """

    async def count_frozen(self, collection: str, archive_id: str) -> tuple[int, int]:
        """Return the number of documents that are frozen for this archive, and the number of their pages."""


class Receiving(Protocol):
    """Takes a collection that was packed elsewhere, or here before it was deleted.

    Its page keys may be in use here, so all records get new ones.
    """

    async def receive_collection(self, record: CollectionRecord, retired: Collection[str]) -> None:
        """Insert the record, with these fingerprints of former embedders. Raises Conflict if the name has a record."""

    async def note_archived(self, collection: str, archive_id: str, document_ids: Collection[str]) -> None:
        """Record that these documents are in this archive: an audit then leaves their objects alone."""

    def packed_document(self, record: str) -> PackedDocument:
        """Read a packed record. Makes no request. Raises BadRecord, NewerRecord."""

    def renumbered_document(self, record: str, first_page_key: int, generation: int, revision: int) -> str:
        """The packed record with another first page key, its fence, and another revision, in no other generation.

        Makes no request.
        """

    def renumbered_page(self, record: str, page_key: int, generation: int) -> str:
        """The packed record with another key, without counts of other generations. Makes no request."""


class ArchivedDocuments(Protocol):
    """The ids of documents whose records are in an archive."""

    async def archived_ids(self, document_ids: Collection[str]) -> set[str]:
        """Those of `document_ids` that are in any archive."""

    async def archived_collection(self, document_id: str) -> str | None:
        """Return the collection of a document that only an archive holds; None for any other."""

    async def archived_in(self, collection: str, limit: int) -> Sequence[str]:
        """Ids of documents that are in the collection's archive."""

    async def forget_archived(self, collection: str, archive_id: str) -> None:
        """Record that this archive has no documents any more."""

    async def forget_archived_ids(self, document_ids: Collection[str]) -> None:
        """Record that these documents are in no archive any more."""
