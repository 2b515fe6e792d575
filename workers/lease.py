"""Keeping a document while it is being worked on."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import structlog

from ingestion.errors import DependencyUnavailable, LeaseLost
from ingestion.model import Document
from ingestion.ports import DocumentStore

log = structlog.get_logger(__name__)

_BEATS_PER_LEASE = 3


class Lease:
    """Extends a document's lease from a task of its own for as long as the block runs.

    When the fence has moved, the block is cancelled and LeaseLost raised in its place; when the database could not be
    told before the lease ran out, that is DependencyUnavailable. Somebody else may own the document by then.
    `document` is the record as whoever has the lease has last changed it.
    """

    def __init__(self, documents: DocumentStore, document: Document, lease_s: float) -> None:
        self._documents = documents
        self.document = document
        self._lease_s = lease_s
        self._expires = time.monotonic() + lease_s
        self._lost: LeaseLost | DependencyUnavailable | None = None

    async def __aenter__(self) -> Self:
        owner = asyncio.current_task()
        assert owner is not None
        self._owner = owner
        self._task = asyncio.create_task(self._beat())
        return self

    def check(self) -> None:
        """Raise LeaseLost where the lease may have ended, as after a standstill of this process.

        Asked before writes to stores that know nothing of fences. It looks at this machine's clock alone.
        """
        if time.monotonic() >= self._expires:
            raise LeaseLost(
                f"the lease of document {self.document.id} may have ended; it has not been extended in time"
            )

    async def end(self) -> None:
        """No more heartbeats, before a verdict is recorded: one that meets it would take it for a lost lease.

        The verdict itself is guarded by the fence.
        """
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        try:
            await asyncio.gather(self._task, return_exceptions=True)
        except asyncio.CancelledError:
            if self._lost is None:
                raise
        if self._lost is not None:
            self._owner.uncancel()
            raise self._lost

    async def _beat(self) -> None:
        while self._lost is None:
            await asyncio.sleep(self._lease_s / _BEATS_PER_LEASE)
            sent = time.monotonic()
            try:
                await self._documents.extend(self.document.id, self.document.fence, round(self._lease_s * 1000))
                self._expires = sent + self._lease_s
            except LeaseLost as lost:
                self._lost = lost
            except DependencyUnavailable as error:
                log.warning("heartbeat failed", document_id=self.document.id, cause=error.message)
                if time.monotonic() >= self._expires:
                    self._lost = error
        self._owner.cancel()
