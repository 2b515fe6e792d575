"""Archives and restores collections. Interrupted between any two steps, either may be repeated.

    active -> archiving   documents are frozen, then packed; the archive is read back; this step can be undone
    archiving -> freeing  from here on the archive is authoritative: index, pages and records are removed
    freeing -> archived   uploads, page images, vector blobs and the documents' ids stay
    archived -> restoring records, pages and rows are written again, with the same ids and page keys
    restoring -> opening  everything is restored: documents are thawed, the archive is removed
    opening -> active     searchable

Each attempt to pack has its own folder, so two attempts never mix. Each removal checks the archive's id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from ingestion.catalogue.holds import LEASE_S, Hold, held
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState, archive_prefix, archives_of
from ingestion.errors import (
    CollectionArchived,
    CollectionBusy,
    Conflict,
    DependencyUnavailable,
    IngestError,
    LeaseLost,
)
from ingestion.ports import ArchivedDocuments, Archiving, BlobStore, CollectionCatalogue, Holds, VectorStore
from workers.lifecycle.packer import Packer
from workers.lifecycle.unpacker import Unpacker

log = structlog.get_logger(__name__)

_DOCUMENTS_AT_ONCE: Final = 100
_NAMED: Final = 5
"""Documents in progress that an error names."""
_S = CollectionState


class ArchiveRecords(CollectionCatalogue, Holds, Archiving, ArchivedDocuments, Protocol):
    """The records that archiving and restoring read and write."""


@dataclass(frozen=True, slots=True)
class Archiver:
    """Archives and restores. Both methods raise CollectionHeld while another process has the collection, NotFound,
    LeaseLost, DependencyUnavailable, and go on where an earlier attempt ended. With `seen` they raise CollectionBusy
    unless the collection still is as that shows it.
    """

    records: ArchiveRecords
    blobs: BlobStore
    vectors: VectorStore
    packer: Packer
    unpacker: Unpacker
    lease_s: float = field(default=LEASE_S)

    async def archive(self, collection: str, *, seen: CollectionRecord | None = None) -> Archive:
        """Raises CollectionBusy where documents are in progress or lack rows; then everything is as it was.

        An archived collection is left alone. Raises CollectionArchived for one that is being restored or dropped.
        """
        async with held(self.records, collection, self.lease_s, seen=seen) as hold:
            state, archive = hold.record.state, hold.record.archive
            if state in (_S.ACTIVE, _S.ARCHIVING):
                archive = await self._pack(hold)
            elif state not in (_S.FREEING, _S.ARCHIVED):
                raise CollectionArchived(f"collection {collection!r} is {state.shown}: wait until that has ended")
            assert archive is not None
            if state is not _S.ARCHIVED:
                await self._free(hold, archive)
            return archive

    async def restore(self, collection: str, *, seen: CollectionRecord | None = None) -> Archive:
        """An archiving before the step `freeing` is undone. Raises Conflict for a collection without an archive."""
        async with held(self.records, collection, self.lease_s, seen=seen) as hold:
            state, archive = hold.record.state, hold.record.archive
            if archive is None or state in (_S.DROPPING, _S.RECEIVING):
                raise Conflict(f"collection {collection!r} is {state.shown}: there is nothing to restore")
            if state is _S.ARCHIVING:
                await self._undo_archiving(hold)
                return archive
            if state is _S.FREEING:
                await self._free(hold, archive)
            if state is not _S.OPENING:
                await self._restore_contents(hold, archive)
            await self._open(hold, archive)
            return archive

    async def _pack(self, hold: Hold) -> Archive:
        archive_id = hold.token
        await self.records.begin_archive(hold.name, hold.token, archive_id)
        try:
            # This archive has no parts yet: all parts that exist come from abandoned attempts.
            await self._remove_parts(hold, archives_of(hold.name))
            await hold.freeze()
            await self._require_idle(hold)
            archive = (await self.packer.pack(hold, archive_id)).summary()
            if await self.records.count_frozen(hold.name, archive_id) != (archive.documents, archive.pages):
                raise CollectionBusy(f"documents of {hold.name!r} were changed while it was being packed")
        except (DependencyUnavailable, LeaseLost):
            raise  # The archiving may be repeated: the parts packed so far do no harm.
        except IngestError:
            await self._undo_archiving(hold)
            raise
        await hold.move(_S.FREEING, archive)
        return archive

    async def _require_idle(self, hold: Hold) -> None:
        """Raises CollectionBusy. From now on uploads are refused: the collection is archiving."""
        busy = await self.records.unfrozen(hold.name, _NAMED + 1)
        if not busy:
            return
        names = [document.id for document in busy[:_NAMED]] + ["and more"] * (len(busy) > _NAMED)
        raise CollectionBusy(
            f"collection {hold.name!r} has documents in progress: {', '.join(names)}; "
            "archive it once they are ready or have failed"
        )

    async def _undo_archiving(self, hold: Hold) -> None:
        await hold.thaw()
        await self._remove_parts(hold, archives_of(hold.name))
        await hold.move(_S.ACTIVE, None)

    async def _free(self, hold: Hold, archive: Archive) -> None:
        # The index first: the documents of its rows must still be known while it is removed.
        await hold.renew(long=True)
        await self.vectors.drop(hold.record.index)
        await hold.renew()
        while await self.records.free_documents(hold.name, archive.id, _DOCUMENTS_AT_ONCE):
            await hold.renew()
        await hold.move(_S.ARCHIVED, archive)

    async def _restore_contents(self, hold: Hold, archive: Archive) -> None:
        await hold.move(_S.RESTORING, archive)
        await self.unpacker.unpack(hold, archive)
        await hold.move(_S.OPENING, archive)

    async def _open(self, hold: Hold, archive: Archive) -> None:
        await self.records.thaw(hold.name, archive.id)
        await hold.renew()
        await self.records.forget_archived(hold.name, archive.id)
        await self._remove_parts(hold, archive_prefix(hold.name, archive.id))
        await self.records.touch_collections([hold.name])
        await hold.move(_S.ACTIVE, None)

    async def _remove_parts(self, hold: Hold, prefix: str) -> None:
        """The hold is confirmed between listing and deleting: what others archive later is not in the list."""
        keys = await self.blobs.list_keys(prefix)
        await hold.renew()
        await self.blobs.delete(keys)
