"""Claims a document and releases it, also where the database stops answering in between.

A claim counts as an attempt. Two kinds of claims began no attempt, or none that counts: a claim whose answer was lost,
and a claim that an outage ended and that could not be released. Both are released before the document is claimed
again. Pages that were written after the lease had been lost, and that could not be deleted at once, are deleted then.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import structlog

from ingestion.errors import Conflict, DependencyUnavailable, IngestError, LeaseHeld, LeaseLost, NotFound
from ingestion.model import CANCELLATION, Document, DocumentState
from ingestion.ports import ArchivedDocuments, DocumentReader, Ledger
from ingestion.tracing import Attribute, span
from workers.attempt.lease import Lease
from workers.attempt.store import PageStore

log = structlog.get_logger(__name__)


_TAKEN_BACK: Final = (DocumentState.DELETING, *CANCELLATION)
"""The states in which no write of a worker may stay."""


class ClaimLedger(DocumentReader, Ledger, ArchivedDocuments, Protocol):
    """Claims and releases documents."""


class Claims:
    """The claims of one worker. `worker` is its name in records and logs."""

    def __init__(self, ledger: ClaimLedger, store: PageStore, worker: str, lease_s: float) -> None:
        self._ledger = ledger
        self._store = store
        self._worker = worker
        self._lease_s = lease_s
        self._unfinished: dict[tuple[str, int], tuple[Document, bool]] = {}
        """Claims that could not be released because a server was down, by document id and fence, each with whether an
        outage had ended the attempt."""
        self._in_doubt: dict[str, str] = {}
        """The tokens of claims that the database may have granted although its answer was lost, by document id."""

    async def clean_up(self, document_id: str) -> None:
        """Release what an outage has left of earlier claims of the document. Raises DependencyUnavailable."""
        for key, (document, outage) in [*self._unfinished.items()]:
            if document.id == document_id:
                await self._release(document, outage=outage)
                self._unfinished.pop(key, None)
        await self._release_in_doubt(document_id)

    async def claim(self, document_id: str, *, delivery: str = "") -> Document:
        """Begin an attempt, under the record `delivery` of the broker.

        Raises Conflict, NotFound, LeaseHeld, DependencyUnavailable.
        """
        token = self._in_doubt.pop(document_id, None) or secrets.token_hex(8)
        with span("claim"):
            return await self._claim_with(token, document_id, delivery)

    def lease(self, document: Document) -> Lease:
        """The lease of the claimed document, to be held while this worker processes it."""
        return Lease(self._ledger, document, self._lease_s)

    async def release(self, document: Document, *, outage: bool = False) -> None:
        """Release the document at once, on shutdown or after an `outage`. Logs an error instead of raising it."""
        try:
            await self._release(document, outage=outage)
        except IngestError as error:
            log.warning("lease not released", **log_fields(document), cause=error.message)

    async def after_loss(self, document: Document, lost: LeaseLost) -> None:
        """Clean up after a lost lease. After a delete or a cancellation this worker's late writes are deleted.

        Raises LeaseHeld where no worker has taken the document since. Then this worker was stopped for a while and has
        to claim it again, or the outcome was recorded without an answer and has to be published. Raises
        DependencyUnavailable.
        """
        with self._clean_up_later_on_error(document):
            current = await self._ledger.get(document.id)
            if current is None or current.fence != document.fence:
                await self._delete_late_writes(document, current, lost)
                return
        log.warning("lease ran out", **log_fields(document), cause=lost.message)
        raise LeaseHeld(document.id, retry_in_s=0.0)

    async def _delete_late_writes(self, document: Document, current: Document | None, lost: LeaseLost) -> None:
        if current is None and await self._ledger.archived_ids([document.id]):
            log.warning("lease lost, and the document archived", **log_fields(document), cause=lost.message)
            return
        uploaded_again = current is not None and current.first_page_key != document.first_page_key
        if current is None or current.state in _TAKEN_BACK or uploaded_again:
            log.warning("lease lost to a delete or a cancellation", **log_fields(document), cause=lost.message)
            await self._store.delete_late_writes(document)
        else:
            log.warning("lease lost", **log_fields(document), cause=lost.message)
            await self._store.delete_late_vectors(document)

    async def _release(self, document: Document, *, outage: bool) -> None:
        with self._clean_up_later_on_error(document, outage=outage):
            try:
                await self._ledger.release(document.id, document.fence, outage=outage)
            except LeaseLost as lost:
                with suppress(LeaseHeld):  # an outcome, or a release, was recorded without an answer
                    await self.after_loss(document, lost)

    @contextmanager
    def _clean_up_later_on_error(self, document: Document, *, outage: bool = False) -> Iterator[None]:
        """If the block raises an IngestError, `clean_up` releases the document later."""
        try:
            yield
        except IngestError:
            self._unfinished[document.id, document.fence] = document, outage
            raise

    async def _release_in_doubt(self, document_id: str) -> None:
        """The token is kept for the next claim, because the lost request may still reach the database."""
        token = self._in_doubt.pop(document_id, None)
        if token is None:
            return
        try:
            with suppress(Conflict, NotFound, LeaseHeld, LeaseLost):
                document = await self._claim_with(token, document_id)
                await self._ledger.release(document.id, document.fence)
        finally:
            self._in_doubt[document_id] = token

    async def _claim_with(self, token: str, document_id: str, delivery: str = "") -> Document:
        try:
            lease_ms = round(self._lease_s * 1000)
            return await self._ledger.claim(document_id, self._worker, lease_ms, token=token, delivery=delivery)
        except DependencyUnavailable:
            self._in_doubt[document_id] = token
            raise


def log_fields(document: Document) -> dict[str, object]:
    """The fields of every log line about an attempt."""
    return {"document_id": document.id, "attempt": document.attempts, "collection": document.collection}


def span_attributes(document: Document) -> dict[str, Attribute]:
    """The attributes of an attempt's span."""
    return {
        "pagemill.document.id": document.id,
        "pagemill.collection": document.collection,
        "pagemill.attempt": document.attempts,
        "pagemill.pages": document.pages,
    }
