"""The ledger: which worker has which document, what is still to be published, and what was left behind.

`fence` grows with every claim and every delete. A method that takes a fence does nothing and raises LeaseLost where
the document's fence is no longer that one. Lease times are compared by the database's own clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.catalogue.generations import FIRST
from ingestion.model import Document, Event, Failure, StaleKind


class Ledger(Protocol):
    """What a worker asks for, from the claim of a document to its outcome."""

    async def claim(self, document_id: str, owner: str, lease_ms: int, *, token: str = "") -> Document:
        """Take the document for `lease_ms`: attempts + 1, fence + 1, state processing, in one compare-and-set.

        Claiming again with the same `token` while the document is still held under it is the same claim, and counts
        once: a caller that did not receive the answer may ask again. "" is no token.

        Raises LeaseHeld while another owner's lease runs, Conflict where the state allows no work any more (ready,
        failed, deleting), NotFound where there is no such document.
        """

    async def require_claimable(self, document_id: str) -> None:
        """Raise what a claim would raise now, and claim nothing."""

    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        """Heartbeat: move the end of the lease. Raises LeaseLost."""

    async def plan(self, document_id: str, fence: int, *, dpi: int, stage: str, generation: int = FIRST) -> Document:
        """Record how the document is being rendered, and for which generation of the collection's vectors.

        Where an attempt before was for another one, no page is done yet. Raises LeaseLost.
        """

    async def checkpoint(self, document_id: str, fence: int, pages_done: int) -> None:
        """Everything up to page `pages_done` is in all stores. Raises LeaseLost."""

    async def finish(self, document: Document) -> Document:
        """`processing` becomes `ready` under the document's fence, with all pages done and with its DPI.

        From then on search finds it. Returns `document` as it is then, except for its times. Raises LeaseLost.
        """

    async def postpone(self, document_id: str, fence: int, failure: Failure, delay_ms: int) -> Document:
        """`processing` becomes `queued`, not to be claimed for `delay_ms`; the attempt stays counted.

        Raises LeaseLost.
        """

    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        """`processing` becomes `failed`, with its dead letter pending. Raises LeaseLost."""

    async def release(self, document_id: str, fence: int, *, outage: bool = False) -> None:
        """End the lease now, without an outcome: `processing` becomes `queued`, and the attempt is not counted.

        `outage`: because a server was down. The document then has one outage more, until its next checkpoint, and
        after OUTAGES_FORGIVEN of them the attempt stays counted. Raises LeaseLost.
        """

    async def history(self, document_id: str) -> Sequence[Event]:
        """The events of the document, oldest first: claims, postponements, outcomes. Empty for an unknown id."""


class Outbox(Protocol):
    """What is still to be published about a document, and what the broker has acknowledged."""

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


class Recovery(Protocol):
    """What a crash or an outage has left half done."""

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
