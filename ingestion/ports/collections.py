"""What the document store knows of collections, and how their records are packed away and brought back.

A *hold* is a lease on a collection, by a token: whoever archives, restores or drops it has one, and every change that
such work makes to the collection's record is refused without it. Holds end by the database's clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState, CollectionTotals
from ingestion.model import Document


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """A document's record in full, as JSON. `is_ready` tells whether it was, before it was frozen."""

    id: str
    page_keys: range
    is_ready: bool
    record: str


@dataclass(frozen=True, slots=True)
class PackedPage:
    """A page's record in full, as JSON. `rows` is how many rows the vector store should hold of it."""

    page_key: int
    rows: int
    record: str


class CollectionLedger(Protocol):
    async def collection(self, collection: str) -> CollectionRecord | None:
        """None where no embedder is bound to the collection, as before its first page."""

    async def collection_records(self) -> Sequence[CollectionRecord]:
        """Those of all collections that an embedder is bound to, in the order of their names."""

    async def collection_totals(self) -> dict[str, CollectionTotals]:
        """Of every collection that any document names."""

    async def require_active(self, collection: str) -> None:
        """Raises CollectionArchived where the collection is in any state but ACTIVE. An unknown one is active."""

    async def touch_collections(self, collections: Collection[str]) -> None:
        """They are in use now. Unknown ones are left unknown."""

    async def hold_collection(self, collection: str, token: str, lease_ms: int) -> CollectionRecord:
        """Take a hold, or extend one's own. Raises NotFound, CollectionHeld while another hold lasts."""

    async def renew_collection_hold(self, collection: str, token: str, lease_ms: int) -> None:
        """Move the end of the hold. Raises LeaseLost where another has been taken since."""

    async def release_collection(self, collection: str, token: str) -> None:
        """End the hold. No effect where it is not the present one."""

    async def begin_archive(self, collection: str, token: str, archive_id: str) -> None:
        """An active collection, or one that somebody began to archive, becomes ARCHIVING, under the hold.

        Raises CollectionBusy while it is being re-embedded, LeaseLost.
        """

    async def move_collection(
        self, collection: str, token: str, state: CollectionState, archive: Archive | None
    ) -> None:
        """Change state and archive, and with them the collection's version, under the hold. Raises LeaseLost."""

    async def forget_collection(self, collection: str, token: str) -> None:
        """Remove the record, under the hold. Raises LeaseLost."""


class Packing(Protocol):
    """Frozen documents are those in state ARCHIVED. Each carries the id of the archive that it is frozen for."""

    async def freeze(self, collection: str, archive_id: str) -> None:
        """Ready and failed documents become frozen, and those frozen for another archive are so for this one."""

    async def thaw(self, collection: str, archive_id: str) -> None:
        """Documents that are frozen for this archive become what they were, ready or failed."""

    async def collections_with_frozen(self) -> Sequence[str]:
        """The collections of frozen documents."""

    async def unfrozen(self, collection: str, limit: int) -> Sequence[Document]:
        """Documents that are not frozen, in the order of their ids."""

    async def pack_documents(self, collection: str, *, after: int, limit: int) -> Sequence[PackedDocument]:
        """Frozen documents whose first page key is above `after`, in the order of these keys."""

    async def pack_pages(self, page_keys: range, generation: int) -> Sequence[PackedPage]:
        """The pages that there are, in the order of their keys, with the rows they have in that generation."""

    async def unpack_documents(self, collection: str, archive_id: str, documents: Iterable[str]) -> None:
        """Insert or replace packed records, as documents that are frozen for this archive."""

    async def unpack_pages(self, pages: Iterable[str]) -> None:
        """Insert or replace packed records."""

    async def free_documents(self, collection: str, archive_id: str, limit: int) -> int:
        """Remove pages and records of up to `limit` documents that are frozen for this archive; how many there were.

        First their ids are noted as archived, so that nobody ever takes the objects of these documents for orphans.
        """

    async def count_frozen(self, collection: str, archive_id: str) -> tuple[int, int]:
        """How many documents are frozen for this archive, and how many pages those have."""

    async def archived_ids(self, document_ids: Collection[str]) -> set[str]:
        """Those of `document_ids` that are in some archive."""

    async def archived_in(self, collection: str, limit: int) -> Sequence[str]:
        """Ids of documents that are in the collection's archive."""

    async def forget_archived(self, collection: str, archive_id: str) -> None:
        """No document is in this archive any more."""

    async def forget_archived_ids(self, document_ids: Collection[str]) -> None:
        """These documents are in no archive any more."""
