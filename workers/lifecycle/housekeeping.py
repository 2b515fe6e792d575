"""The janitor's work on collections: finish interrupted changes, and expire collections that are not used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, Protocol, TypeAlias

import structlog

from ingestion import metrics
from ingestion.catalogue.holds import held
from ingestion.catalogue.states import CollectionRecord, CollectionState
from ingestion.errors import CollectionBusy, CollectionHeld, DependencyUnavailable, NotFound, as_ingest_error
from ingestion.ports import Archiving, CollectionCatalogue, Holds
from ingestion.removal import Remover
from workers.lifecycle.archive import Archiver

log = structlog.get_logger(__name__)

Expiry: TypeAlias = Literal["off", "archive", "drop"]
_S = CollectionState
_FORWARD: Final = (_S.ARCHIVING, _S.FREEING)
_BACK: Final = (_S.RESTORING, _S.OPENING)


class LifecycleChange(StrEnum):
    """The change that a round made to a collection."""

    ARCHIVED = "archived"
    """An interrupted archiving was finished. The next three changes finish interrupted work too."""
    RESTORED = "restored"
    DROPPED = "dropped"
    THAWED = "thawed"
    EXPIRED_ARCHIVED = "expired_archived"
    """The collection expired and was archived."""
    EXPIRED_DROPPED = "expired_dropped"


@dataclass(slots=True)
class LifecycleResult:
    """The changes of one round, counted, and the names of collections on which it failed."""

    done: Counter[LifecycleChange] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


class LifecycleRecords(CollectionCatalogue, Holds, Archiving, Protocol):
    """The records that the lifecycle of collections reads and writes."""


@dataclass(frozen=True, slots=True)
class CollectionLifecycle:
    """Keepers may run side by side: only one of them gets the hold on a collection, and only while that is as it was
    when they looked: a round may take long, and others archive, drop and fill collections meanwhile.
    """

    records: LifecycleRecords
    archiver: Archiver
    remover: Remover
    expiry: Expiry
    expire_after: timedelta

    async def round(self, collection: str | None = None) -> LifecycleResult:
        """Process one collection, or all. A failure on one collection is logged and does not stop the round.

        Raises DependencyUnavailable.
        """
        result = LifecycleResult()
        frozen = set(await self.records.collections_with_frozen())
        for record in await self.records.collection_records():
            if collection in (None, record.name):
                await self._process(record, record.name in frozen, result)
        return result

    async def _process(self, record: CollectionRecord, has_frozen: bool, result: LifecycleResult) -> None:
        try:
            done = await self._finish(record, has_frozen) or await self._expire(record)
        except DependencyUnavailable:
            raise
        except (CollectionHeld, CollectionBusy, NotFound) as error:
            log.info("collection left alone", collection=record.name, cause=error.message)
            return
        except Exception as error:  # noqa: BLE001 - what is raised about one collection is that collection's
            result.failed.append(record.name)
            cause = as_ingest_error(error)
            log.error("collection not processed", collection=record.name, code=cause.code, cause=cause.message)
            return
        if done:
            result.done[done] += 1
            metrics.COLLECTIONS_CHANGED.labels(done).inc()
            log.warning("collection changed", collection=record.name, action=done)

    async def _finish(self, record: CollectionRecord, has_frozen: bool) -> LifecycleChange | None:
        """Finish the work of a process that has ended. None where there is nothing to finish."""
        if record.state in _FORWARD:
            await self.archiver.archive(record.name, seen=record)
            return LifecycleChange.ARCHIVED
        if record.state in _BACK:
            await self.archiver.restore(record.name, seen=record)
            return LifecycleChange.RESTORED
        if record.state in (_S.DROPPING, _S.RECEIVING):
            await self.remover.finish_drop(record)
            return LifecycleChange.DROPPED
        if record.state is _S.ACTIVE and has_frozen:
            await self._thaw(record.name)
            return LifecycleChange.THAWED
        return None

    async def _thaw(self, collection: str) -> None:
        """A process that stood still may have frozen documents after others had brought the collection back."""
        async with held(self.records, collection) as hold:
            if hold.record.state is _S.ACTIVE:
                await hold.thaw()
                await hold.move(_S.ACTIVE, hold.record.archive)  # what was answered without them is forgotten

    async def _expire(self, record: CollectionRecord) -> LifecycleChange | None:
        """None where the collection is in use or expiry is off. An unknown last use counts as now."""
        if self.expiry == "off" or record.state is not _S.ACTIVE:
            return None
        if record.last_used_at is None:
            await self.records.touch_collections([record.name])
            return None
        if datetime.now(UTC) - record.last_used_at < self.expire_after:
            return None
        if self.expiry == "archive":
            await self.archiver.archive(record.name, seen=record)
            return LifecycleChange.EXPIRED_ARCHIVED
        await self.remover.drop_unused(record)
        return LifecycleChange.EXPIRED_DROPPED
