"""Archives: each archived collection has every part that its manifest names, and no other folder is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Final

from ingestion.catalogue.states import ARCHIVES_PREFIX, CollectionRecord, CollectionState, archive_prefix, archives_of
from ingestion.errors import BadRecord, NewerRecord, WorkerFault
from ingestion.ports import BlobEntry, BlobStore, CollectionCatalogue
from workers.audit.mismatch import Mismatch, MismatchKind, NotJudged, Recheck, TooYoung
from workers.lifecycle.manifest import read_manifest

_COMPLETE: Final = (CollectionState.FREEING, CollectionState.ARCHIVED, CollectionState.RESTORING)


@dataclass(frozen=True, slots=True)
class ArchivesAudit:
    """An archiving stores parts before its collection's record speaks of them as complete, and one that is killed
    leaves them: a folder that no record names is an orphan once it is old enough."""

    catalogue: CollectionCatalogue
    blobs: BlobStore
    orphan_grace: timedelta
    repair: bool
    too_young: TooYoung = field(default_factory=TooYoung)
    not_judged: NotJudged = field(default_factory=NotJudged)

    async def suspects(self, collection: str | None) -> AsyncIterator[Recheck]:
        records = await self.catalogue.collection_records()
        for record in records:
            if collection in (None, record.name) and await self._lacks(record):
                yield partial(self._recheck_archive, record.name)
        listing = [
            entry async for entry in self.blobs.entries(archives_of(collection) if collection else ARCHIVES_PREFIX)
        ]
        for prefix, entries in groupby(listing, lambda entry: _folder_of(entry.key)):
            folder = list(entries)
            if not self._are_old(folder):
                if not await self._is_named(prefix):
                    self.too_young.note(folder, self.orphan_grace)
            elif not await self._is_named(prefix):
                yield partial(self._recheck_folder, prefix)

    async def _lacks(self, record: CollectionRecord) -> list[str]:
        """The keys that a complete archive should have, and has not; its manifest, where that cannot be read."""
        if record.archive is None or record.state not in _COMPLETE:
            return []
        prefix = archive_prefix(record.name, record.archive.id)
        try:
            manifest = await read_manifest(self.blobs, record, record.archive.id)
        except NewerRecord:
            return []
        except WorkerFault as error:
            return [f"{prefix}: {error.message}"]
        there = set(await self.blobs.list_keys(prefix))
        return [key for part in manifest.parts if (key := manifest.key_of(part)) not in there]

    async def _recheck_archive(self, name: str) -> list[Mismatch]:
        record = await self.catalogue.collection(name)
        lacking = await self._lacks(record) if record else []
        if not lacking or await self.catalogue.collection(name) != record:
            return []
        return [Mismatch("s3", MismatchKind.MISSING, lacking[0], len(lacking), collection=name)]

    async def _orphans(self, prefix: str, entries: Sequence[BlobEntry]) -> list[str]:
        if not self._are_old(entries) or await self._is_named(prefix):
            return []
        return [entry.key for entry in entries]

    def _are_old(self, entries: Sequence[BlobEntry]) -> bool:
        latest = datetime.now(UTC) - self.orphan_grace
        return all(entry.modified < latest for entry in entries)

    async def _is_named(self, prefix: str) -> bool:
        """Whether the record of its collection names the folder as its archive, or cannot be read."""
        name = _collection_of(prefix)
        try:
            record = await self.catalogue.collection(name)
        except BadRecord as error:
            self.not_judged.note(f"archive of collection {name}", error)
            return True
        if record is not None and not record.state.is_known:
            return True
        return bool(record and record.archive and archive_prefix(name, record.archive.id) == prefix)

    async def _recheck_folder(self, prefix: str) -> list[Mismatch]:
        """An archive without a record never gets one: the ids of archives are used once."""
        keys = await self._orphans(prefix, [entry async for entry in self.blobs.entries(prefix)])
        if not keys:
            return []
        found = Mismatch("s3", MismatchKind.ORPHAN, keys[0], len(keys), collection=_collection_of(prefix))
        if self.repair:
            await self.blobs.delete(keys)
            found = replace(found, is_repaired=True)
        return [found]


def _folder_of(key: str) -> str:
    return f"{key.rpartition('/')[0]}/"


def _collection_of(prefix: str) -> str:
    return prefix.removeprefix(ARCHIVES_PREFIX).partition("/")[0]
