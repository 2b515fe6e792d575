"""Documents, pages, and the ledger of who works on what."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ingestion.catalogue.generations import FIRST
from ingestion.model import Document, Event, Failure, LetterMark, PageRecord, StaleKind
from ingestion.ports.collections import CollectionLedger, Packing
from ingestion.ports.generations import GenerationRecords
from ingestion.ports.inventory import RecordInventory
from ingestion.ports.versions import CollectionVersions


class DocumentStore(RecordInventory, CollectionLedger, Packing, GenerationRecords, CollectionVersions, Protocol):
    """The records, and the ledger that says who works on what.

    `fence` grows with every claim and every delete. A method that takes a fence does nothing and raises LeaseLost
    where the document's fence is no longer that one; lease times are compared by the database's own clock.
    """

    async def reserve_page_keys(self, count: int) -> int:
        """Reserve `count` consecutive page keys for good and return the first. Twice reserves two ranges."""

    async def collection_fingerprint(self, collection: str) -> str | None:
        """The embedder bound to the collection, None before its first page."""

    async def collections(self) -> Sequence[str]:
        """The collections that an embedder is bound to, in the order of their names."""

    async def insert(self, document: Document) -> bool:
        """Insert as `received` with the outbox pending; False, and nothing changed, where the id exists."""

    async def get(self, document_id: str) -> Document | None: ...

    async def list(
        self, collection: str | None = None, *, limit: int = 100, after: str | None = None
    ) -> list[Document]:
        """Documents that are not deleted, in the order of their ids, from after the id `after`."""

    async def mark_queued(self, document: Document) -> None:
        """The broker has the job: outbox sent, and `received` becomes `queued`. Twice is safe.

        Nothing is changed where the same file has been uploaded again.
        """

    async def requeue(self, document_id: str, *, fence: int | None = None) -> bool:
        """`failed` becomes `queued` with the outbox pending and no attempts; pages that are stored stay stored.

        False, and nothing changed, where it is not failed, or, with `fence`, where it failed under another one.
        """

    async def claim(self, document_id: str, owner: str, lease_ms: int, *, token: str = "") -> Document:
        """Take the document for `lease_ms`: attempts + 1, fence + 1, state processing, in one compare-and-set.

        Claiming again with the same `token` while the document is still held under it is the same claim, and counts
        once: a caller who did not hear the answer may ask again. "" is no token.

        Raises LeaseHeld while another owner's lease runs, Conflict where the state allows no work any more (ready,
        failed, deleting), NotFound where there is no such document.
        """

    async def require_claimable(self, document_id: str) -> None:
        """Raise what a claim would raise now, and take nothing."""

    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        """Heartbeat: move the end of the lease. Raises LeaseLost."""

    async def plan(self, document_id: str, fence: int, *, dpi: int, stage: str, generation: int = FIRST) -> Document:
        """Record how the document is being rendered, and for which generation of the collection's vectors.

        Where an attempt before was for another one, no page is done yet. Raises LeaseLost.
        """

    async def checkpoint(self, document_id: str, fence: int, pages_done: int) -> None:
        """Everything up to page `pages_done` is in all stores. Raises LeaseLost."""

    async def finish(self, document_id: str, fence: int) -> Document:
        """`processing` becomes `ready`, with all pages done, and visible to search. Raises LeaseLost."""

    async def postpone(self, document_id: str, fence: int, failure: Failure, delay_ms: int) -> Document:
        """`processing` becomes `queued`, not to be claimed for `delay_ms`; the attempt stays counted.

        Raises LeaseLost.
        """

    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        """`processing` becomes `failed`, with its dead letter pending. Raises LeaseLost."""

    async def mark_dead_letter_sent(self, document_id: str, fence: int) -> None:
        """The broker has the dead letter of the failure under `fence`. No effect once the document has moved on."""

    async def release(self, document_id: str, fence: int, *, outage: bool = False) -> None:
        """End the lease now, without a verdict: `processing` becomes `queued`, and the attempt is not counted.

        `outage`: because a server was down. The document then has one outage more, until its next checkpoint, and
        after OUTAGES_FORGIVEN of them the attempt stays counted. Raises LeaseLost.
        """

    async def story(self, document_id: str) -> Sequence[Event]:
        """What befell the document, oldest first: claims, postponements, verdicts. Empty for an unknown id."""

    async def stale(
        self, kind: StaleKind, age_s: float, limit: int, *, collection: str | None = None
    ) -> Sequence[Document]:
        """Documents that have been in the state which `kind` names for longer than `age_s`, oldest first.

        The age counts from the last change, or from the end of a lease or of a wait where that is later.
        """

    async def unreadable(self, collection: str | None = None) -> dict[str, int]:
        """How many documents are in each state that this release does not know."""

    async def expire(self, document_id: str, fence: int) -> bool:
        """A lease that has run out: `processing` becomes `queued` with the outbox pending; the attempt stays counted.

        False, and nothing changed, where the fence has moved on or the lease still runs.
        """

    async def mark_letter(self, mark: LetterMark) -> bool:
        """Remember what was done about a dead letter. False, and nothing changed, where it has a mark already."""

    async def letter_marks(self, letter_ids: Collection[str]) -> dict[str, LetterMark]:
        """The marks that exist, by letter id."""

    async def begin_delete(self, document_id: str) -> Document:
        """Any state becomes `deleting`, and the fence moves on, so that a worker's late writes are refused.

        Safe to repeat. Raises NotFound, CollectionArchived where it is frozen for an archive, Conflict where it came
        back at the same moment.
        """

    async def remove(self, document: Document) -> None:
        """Drop the record and its pages, last step of a delete. One that is gone is no error.

        Raises Conflict where the deletion has not begun, or the same file has been uploaded again.
        """

    async def remove_pages(self, first_page_key: int, count: int) -> None:
        """Drop the records of `count` pages from `first_page_key` on, where there are any."""

    async def put_pages(self, pages: Sequence[PageRecord]) -> None:
        """Insert or replace by page key."""

    async def pages_by_key(self, page_keys: Collection[int], *, with_text: bool = False) -> dict[int, PageRecord]:
        """The records that exist; `text` is empty unless asked for."""

    async def ready_documents(self, document_ids: Collection[str]) -> dict[str, Document]:
        """Those of `document_ids` that are `ready`, with the state read from the primary."""

    async def ping(self) -> None: ...
