"""A lease on a collection, for operations of many steps: archive, restore, drop."""

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
from ingestion.ports import Holds

log = structlog.get_logger(__name__)

LEASE_S: Final = 30.0
"""A hold that is not renewed ends after this time. If its process is killed, other processes wait that long."""
_LONG_LEASES: Final = 5
"""The factor for one request that may take minutes and cannot be undone, such as the deletion of an index."""

_RELEASE_S: Final = 5.0
"""The time limit for the release of a hold. A hold that is not released ends with its lease."""


@dataclass(frozen=True, slots=True)
class Hold:
    """`record` is the collection's record when the hold was taken. `token` is new for every hold.

    All methods raise LeaseLost if another process has taken the collection since. Call one before each step: a process
    that was stopped for a while then completes its current request only.
    """

    holds: Holds
    record: CollectionRecord
    token: str
    lease_s: float

    @property
    def name(self) -> str:
        return self.record.name

    async def renew(self, *, long: bool = False) -> None:
        """Extend the hold by its lease, from now. `long` extends it further, for one request that may be slow."""
        lease_s = self.lease_s * (_LONG_LEASES if long else 1)
        await self.holds.renew_collection_hold(self.name, self.token, _ms(lease_s))

    async def freeze(self) -> None:
        """Freeze ready, failed and frozen documents, with `token` in place of an archive's id."""
        await self.renew()
        await self.holds.freeze(self.name, self.token)

    async def thaw(self) -> None:
        """Restore the former state of all frozen documents, of every archive."""
        await self.freeze()
        await self.renew()
        await self.holds.thaw(self.name, self.token)

    async def move(self, state: CollectionState, archive: Archive | None) -> None:
        await self.holds.move_collection(self.name, self.token, state, archive)
        log.info("collection", collection=self.name, state=state.value, archive=archive.id if archive else "")


@asynccontextmanager
async def held(
    holds: Holds, collection: str, lease_s: float = LEASE_S, *, seen: CollectionRecord | None = None
) -> AsyncIterator[Hold]:
    """Hold the collection within the block. Raises NotFound, and CollectionHeld if another process holds it.

    A caller that decided from a record read earlier passes that record as `seen`. Raises CollectionBusy if the
    collection has changed its state, or was used, since then.
    """
    token = secrets.token_hex(8)
    record = await holds.hold_collection(collection, token, _ms(lease_s))
    try:
        if seen is not None and _comparable(record) != _comparable(seen):
            raise CollectionBusy(f"collection {collection!r} is no longer as it was found: {record.state.shown}")
        yield Hold(holds, record, token, lease_s)
    finally:
        await _release(holds, collection, token)


async def _release(holds: Holds, collection: str, token: str) -> None:
    try:
        with budget(_RELEASE_S):
            await holds.release_collection(collection, token)
    except IngestError as error:  # the hold ends with its lease; keep the block's own error
        log.warning("hold not released", collection=collection, cause=error.message)


def _comparable(record: CollectionRecord) -> tuple[object, ...]:
    archive_id = record.archive.id if record.archive else ""
    return record.state, archive_id, record.generation, record.last_used_at


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
