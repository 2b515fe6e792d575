"""Claiming a document and letting go of it, also where the database goes silent in the middle of either.

A claim counts as an attempt. One whose answer was lost did not begin an attempt, and neither did one that an outage
ended and that could not be given back: both are taken back before the document is claimed again. So is what was
written after a lease had been lost, where the stores could not be reached at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from ingestion.errors import Conflict, DependencyUnavailable, IngestError, LeaseHeld, LeaseLost, NotFound
from ingestion.model import Document, DocumentState
from ingestion.ports import DocumentStore
from workers.attempt.lease import Lease
from workers.attempt.store import PageStore

log = structlog.get_logger(__name__)


class Claims:
    """The claims of one worker, which goes by the name `worker` in records and logs."""

    def __init__(self, documents: DocumentStore, store: PageStore, worker: str, lease_s: float) -> None:
        self._documents = documents
        self._store = store
        self._worker = worker
        self._lease_s = lease_s
        self._unfinished: dict[tuple[str, int], tuple[Document, bool]] = {}
        """What a server that was down has kept this worker from letting go of, by document id and fence, and whether
        an outage had ended the attempt."""
        self._in_doubt: dict[str, str] = {}
        """The tokens of claims that the database may have granted without being able to say so, by document id."""

    async def clean_up(self, document_id: str) -> None:
        """What an outage has left of earlier claims of the document. Raises DependencyUnavailable."""
        for key, (document, outage) in [*self._unfinished.items()]:
            if document.id == document_id:
                await self._let_go(document, outage=outage)
                self._unfinished.pop(key, None)
        await self._withdraw(document_id)

    async def claim(self, document_id: str) -> Document:
        """Begin an attempt. Raises Conflict, NotFound, LeaseHeld, DependencyUnavailable."""
        token = self._in_doubt.pop(document_id, None) or secrets.token_hex(8)
        return await self._claim_with(token, document_id)

    def lease(self, document: Document) -> Lease:
        """What keeps the claimed document with this worker while it works on it."""
        return Lease(self._documents, document, self._lease_s)

    async def release(self, document: Document, *, outage: bool = False) -> None:
        """On shutdown or an `outage`: let go of the document at once, as well as that is possible."""
        try:
            await self._let_go(document, outage=outage)
        except IngestError as error:
            log.warning("lease not released", **named(document), cause=error.message)

    async def after_loss(self, document: Document, lost: LeaseLost) -> None:
        """Somebody else owns the document now. If that was a delete, what this worker wrote late is taken back.

        Raises LeaseHeld where nobody has taken the document: this worker stood still and has to claim it again, or
        its verdict is recorded although the database could not say so, and has to be told. Raises
        DependencyUnavailable.
        """
        with self._remembered(document):
            current = await self._documents.get(document.id)
            if current is None or current.fence != document.fence:
                await self._take_back_pages(document, current, lost)
                return
        log.warning("lease ran out", **named(document), cause=lost.message)
        raise LeaseHeld(document.id, retry_in_s=0.0)

    async def _take_back_pages(self, document: Document, current: Document | None, lost: LeaseLost) -> None:
        if current is None and await self._documents.archived_ids([document.id]):
            log.warning("lease lost, and the document archived", **named(document), cause=lost.message)
            return
        uploaded_again = current is not None and current.first_page_key != document.first_page_key
        if current is None or current.state is DocumentState.DELETING or uploaded_again:
            log.warning("lease lost to a delete", **named(document), cause=lost.message)
            await self._store.delete_late_writes(document)
        else:
            log.warning("lease lost", **named(document), cause=lost.message)
            await self._store.delete_late_vectors(document)

    async def _let_go(self, document: Document, *, outage: bool) -> None:
        with self._remembered(document, outage=outage):
            try:
                await self._documents.release(document.id, document.fence, outage=outage)
            except LeaseLost as lost:
                with suppress(LeaseHeld):  # a verdict, or a release, was recorded without an answer
                    await self.after_loss(document, lost)

    @contextmanager
    def _remembered(self, document: Document, *, outage: bool = False) -> Iterator[None]:
        """What an error keeps from being taken back now is taken back later."""
        try:
            yield
        except IngestError:
            self._unfinished[document.id, document.fence] = document, outage
            raise

    async def _withdraw(self, document_id: str) -> None:
        """The token is kept for the next claim: the lost request may be on its way still."""
        token = self._in_doubt.pop(document_id, None)
        if token is None:
            return
        try:
            with suppress(Conflict, NotFound, LeaseHeld, LeaseLost):
                document = await self._claim_with(token, document_id)
                await self._documents.release(document.id, document.fence)
        finally:
            self._in_doubt[document_id] = token

    async def _claim_with(self, token: str, document_id: str) -> Document:
        try:
            return await self._documents.claim(document_id, self._worker, round(self._lease_s * 1000), token=token)
        except DependencyUnavailable:
            self._in_doubt[document_id] = token
            raise


def named(document: Document) -> dict[str, object]:
    """What every line of the log about an attempt says of its document."""
    return {"document_id": document.id, "attempt": document.attempts, "collection": document.collection}
