"""The ledger: which worker has which document.

`fence` grows with every claim and every delete. A method that takes a fence does nothing and raises LeaseLost where
the document's fence is no longer that one. Lease times are compared by the database's own clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.catalogue.generations import FIRST
from ingestion.model import Document, Event, Failure, Note, TextPages


class Ledger(Protocol):
    """The changes that a worker makes, from the claim of a document to its outcome."""

    async def claim(
        self, document_id: str, owner: str, lease_ms: int, *, token: str = "", delivery: str = ""
    ) -> Document:
        """Take the document for `lease_ms`: attempts + 1, fence + 1, state processing, in one compare-and-set.

        Claiming again with the same `token` while the document is still held under it is the same claim, and counts
        once: a caller that did not receive the answer may ask again. "" is no token. `delivery` is recorded: the
        record of the broker under which the document is claimed.

        Raises LeaseHeld while another owner's lease runs, Conflict where the state allows no work any more (ready,
        failed, deleting), NotFound where there is no such document.
        """

    async def require_claimable(self, document_id: str) -> None:
        """Raise what a claim would raise now, and claim nothing."""

    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        """Heartbeat: move the end of the lease. Raises LeaseLost."""

    async def plan(
        self, document_id: str, fence: int, *, dpi: int, stage: str, pages: int | None = None, generation: int = FIRST
    ) -> Document:
        """Record how the document is being rendered, and for which generation of the collection's vectors.

        `pages`: the number of pages, where the upload did not know it. Where an attempt before was for
        another generation, no page is done yet. Raises LeaseLost.
        """

    async def checkpoint(
        self,
        document_id: str,
        fence: int,
        pages_done: int,
        text_pages: TextPages | None = None,
        notes: Sequence[Note] = (),
    ) -> None:
        """Everything up to page `pages_done` is in all stores, with these sources of texts and notes.

        Raises LeaseLost.
        """

    async def finish(self, document: Document) -> Document:
        """`processing` becomes `ready` under the document's fence, with all pages done, its DPI, `codes_format`,
        `terms_format`, `text_pages` and `notes`.

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
