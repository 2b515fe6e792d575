"""A collection in the hands of one process, for work of many steps: archiving, restoring, dropping."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState
from ingestion.concurrency.deadline import budget
from ingestion.errors import CollectionBusy, IngestError
from ingestion.ports import DocumentStore

log = structlog.get_logger(__name__)

LEASE_S: Final = 30.0
"""How long a hold lasts that nobody extends. A killed process keeps others waiting for as long."""
_LONG: Final = 5
"""Times the lease: for one request that may take minutes and cannot be taken back, as the removal of an index."""

_RELEASE_S: Final = 5.0
"""Time for releasing a hold. After it, the hold ends with its lease."""


@dataclass(frozen=True, slots=True)
class Hold:
    """`record` is the collection's as it was when the hold was taken; `token` is new with every hold.

    All methods raise LeaseLost where somebody else has taken the collection since. They are asked before each step, so
    that a process that stood still does no more than the request it was in the middle of.
    """

    documents: DocumentStore
    record: CollectionRecord
    token: str
    lease_s: float

    @property
    def name(self) -> str:
        return self.record.name

    async def renew(self, *, long: bool = False) -> None:
        """Extend the hold to its lease from now, or, before a single request that may be slow, to much longer."""
        lease_s = self.lease_s * (_LONG if long else 1)
        await self.documents.renew_collection_hold(self.name, self.token, _ms(lease_s))

    async def freeze(self) -> None:
        """Documents at rest become frozen for `token`, in place of an archive's id, and so do those frozen before."""
        await self.renew()
        await self.documents.freeze(self.name, self.token)

    async def thaw(self) -> None:
        """Frozen documents become what they were, whatever they were frozen for."""
        await self.freeze()
        await self.renew()
        await self.documents.thaw(self.name, self.token)

    async def move(self, state: CollectionState, archive: Archive | None) -> None:
        await self.documents.move_collection(self.name, self.token, state, archive)
        log.info("collection", collection=self.name, state=state.value, archive=archive.id if archive else "")


@asynccontextmanager
async def held(
    documents: DocumentStore, collection: str, lease_s: float = LEASE_S, *, seen: CollectionRecord | None = None
) -> AsyncIterator[Hold]:
    """Raises NotFound, CollectionHeld while another process has the collection.

    Whoever acts upon a record that it read a while ago passes that as `seen`: CollectionBusy is raised where the
    collection has been moved, or used, since.
    """
    token = secrets.token_hex(8)
    record = await documents.hold_collection(collection, token, _ms(lease_s))
    try:
        if seen is not None and _standing(record) != _standing(seen):
            raise CollectionBusy(f"collection {collection!r} is no longer as it was found: {record.state.shown}")
        yield Hold(documents, record, token, lease_s)
    finally:
        await _release(documents, collection, token)


async def _release(documents: DocumentStore, collection: str, token: str) -> None:
    try:
        with budget(_RELEASE_S):
            await documents.release_collection(collection, token)
    except IngestError as error:  # It ends by itself, and must not hide the error that may have led here.
        log.warning("hold not released", collection=collection, cause=error.message)


def _standing(record: CollectionRecord) -> tuple[object, ...]:
    archive_id = record.archive.id if record.archive else ""
    return record.state, archive_id, record.generation, record.last_used_at


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
