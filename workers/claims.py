"""Claiming a document and letting go of it, also where the database goes silent in the middle of either.

A claim counts as an attempt. One whose answer was lost did not begin an attempt, and neither did one that an outage
ended and that could not be given back: both are taken back before the document is claimed again.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

import structlog

from ingestion.errors import Conflict, DependencyUnavailable, IngestError, LeaseHeld, LeaseLost, NotFound
from ingestion.model import Document
from ingestion.ports import DocumentStore
from workers.lease import Lease

log = structlog.get_logger(__name__)


class Claims:
    """The claims of one worker, which goes by the name `worker` in records and logs."""

    def __init__(self, documents: DocumentStore, worker: str, lease_s: float) -> None:
        self._documents = documents
        self._worker = worker
        self._lease_s = lease_s
        self._unreleased: dict[str, int] = {}
        """The fences of leases that could not be given back while the database was down, by document id."""
        self._in_doubt: dict[str, str] = {}
        """The tokens of claims that the database may have granted without being able to say so, by document id."""

    async def take_back(self, document_id: str) -> None:
        """What an outage has left of earlier claims of the document. Raises DependencyUnavailable."""
        await self._release_late(document_id)
        await self._withdraw(document_id)

    async def claim(self, document_id: str) -> Document:
        """Begin an attempt. Raises Conflict, NotFound, LeaseHeld, DependencyUnavailable."""
        token = self._in_doubt.pop(document_id, None) or secrets.token_hex(8)
        return await self._claim_with(token, document_id)

    def lease(self, document: Document) -> Lease:
        """What keeps the claimed document with this worker while it works on it."""
        return Lease(self._documents, document, self._lease_s)

    async def release(self, document: Document) -> None:
        """On shutdown or an outage: let go of the document at once, as well as that is possible."""
        try:
            await self._documents.release(document.id, document.fence)
        except LeaseLost:
            return
        except IngestError as error:
            self._unreleased[document.id] = document.fence
            log.warning("lease not released", document_id=document.id, attempt=document.attempts, cause=error.message)

    async def _release_late(self, document_id: str) -> None:
        fence = self._unreleased.get(document_id)
        if fence is not None:
            with suppress(LeaseLost):
                await self._documents.release(document_id, fence)
            del self._unreleased[document_id]

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
