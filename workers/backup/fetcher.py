"""Fetches a backup into an installation that does not have the collection, as an archive of it.

no record -> receiving   objects are copied, parts are written with new page keys; interrupted, this is dropped
receiving -> archived    from here on it is an archive like every other; `Archiver.restore` brings it back
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from ingestion.catalogue.holds import LEASE_S, Hold, held
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState, archive_prefix
from ingestion.concurrency.tasks import map_ordered
from ingestion.errors import Conflict
from ingestion.ports import BlobStore, CollectionCatalogue, DocumentReader, Holds, PackedDocument, Receiving, Uploads
from ingestion.removal import Remover
from workers.backup.manifest import BackupManifest, object_key, read_backup_manifest
from workers.backup.object_copy import OBJECTS_AT_ONCE, HoldKeeper, copy_object
from workers.backup.page_keys import PageKeys
from workers.lifecycle.manifest import FORMAT, IN_ARCHIVES, Manifest, PartKind, write_manifest
from workers.lifecycle.packer import PART_BYTES
from workers.lifecycle.parts import (
    PartWriter,
    StoredObject,
    documents_batch,
    fetch_part,
    groups_in,
    objects_of,
    pages_batch,
    pages_of_rows,
    rows_batch,
)

_INTERRUPTED: Final = (CollectionState.RECEIVING, CollectionState.DROPPING)


class FetchRecords(CollectionCatalogue, DocumentReader, Holds, Receiving, Uploads, Protocol):
    """The records that fetching a backup reads and writes."""


@dataclass(frozen=True, slots=True)
class BackupFetcher:
    """`source` is the store that the backup is in, `blobs` the installation's own."""

    records: FetchRecords
    blobs: BlobStore
    source: BlobStore
    remover: Remover
    lease_s: float = LEASE_S
    part_bytes: int = PART_BYTES

    async def fetch(self, collection: str, backup_id: str = "") -> BackupManifest:
        """Fetch that backup, or the latest one. The collection is archived then; one that is archived from this backup
        stays as it is. What an interrupted attempt left is dropped first; the janitor drops it too.

        Raises NotFound for an unknown backup, Conflict where the collection has a record or documents, CollectionHeld
        while another process fetches it, WorkerFault where the backup is damaged, NewerRecord, LeaseLost,
        DependencyUnavailable.
        """
        manifest = await read_backup_manifest(self.source, collection, backup_id)
        if await self._is_fetched(collection, manifest.backup_id):
            return manifest
        archive = Archive(secrets.token_hex(8), backup=manifest.backup_id)
        await self.records.receive_collection(_record_of(manifest, archive), manifest.retired)
        async with held(self.records, collection, self.lease_s) as hold:
            # An upload records the document and then reads the collection, so one of the two sees the other.
            if await self.records.list(collection, limit=1):
                await self.records.forget_collection(collection, hold.token)
                raise _exists(collection)
            received = await self._receive(hold, manifest, archive.id)
            await hold.move(CollectionState.ARCHIVED, replace(received, backup=manifest.backup_id))
        return manifest

    async def _is_fetched(self, collection: str, backup_id: str) -> bool:
        """False where there is nothing of the collection. Raises Conflict where there is something else."""
        record = await self.records.collection(collection)
        if record is None:
            if await self.records.list(collection, limit=1):
                raise _exists(collection)
            return False
        if record.state in _INTERRUPTED:
            await self.remover.finish_drop(record)
            return False
        if record.archive is None or record.archive.backup != backup_id:
            raise _exists(collection)
        return True

    async def _receive(self, hold: Hold, manifest: BackupManifest, archive_id: str) -> Archive:
        prefix = archive_prefix(hold.name, archive_id)
        with tempfile.TemporaryDirectory(prefix="pagemill-") as name:
            folder = Path(name)
            writers = {
                kind: PartWriter(kind, self.blobs, prefix, folder / "new", self.part_bytes) for kind in IN_ARCHIVES
            }
            (folder / "new").mkdir()
            keys = await self._receive_documents(hold, manifest, archive_id, writers[PartKind.DOCUMENTS], folder)
            await self._copy_objects(hold, manifest, folder)
            await self._receive_pages(hold, manifest, keys, writers[PartKind.PAGES], folder)
            await self._receive_rows(hold, manifest, keys, writers[PartKind.ROWS], folder)
            for writer in writers.values():
                await hold.renew()
                await writer.finish()
        received = Manifest(
            format=FORMAT,
            collection=hold.name,
            archive_id=archive_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            embedder=manifest.embedder,
            dim=manifest.dim,
            generation=manifest.generation,
            parts=tuple(part for writer in writers.values() for part in writer.parts),
        )
        await hold.renew()
        await write_manifest(self.blobs, received)
        return received.summary()

    async def _receive_documents(
        self, hold: Hold, manifest: BackupManifest, archive_id: str, writer: PartWriter, folder: Path
    ) -> PageKeys:
        """Write the records under new page keys. From then on an audit knows that their objects belong here."""
        keys, revisions = PageKeys(), await self._new_revisions(hold, manifest, folder)
        async for kept in self._documents(hold, manifest, folder):
            first = await self.records.reserve_page_keys(sum(len(document.page_keys) for document in kept))
            renumbered = []
            for document in kept:
                revision = revisions.get(document.revision, 0)
                record = self.records.renumbered_document(document.record, first, manifest.generation, revision)
                keys.add(document.page_keys, first)
                first += len(document.page_keys)
                renumbered.append(replace(document, record=record))
            await writer.write(documents_batch(renumbered))
            await self.records.note_archived(hold.name, archive_id, [document.id for document in kept])
        return keys

    async def _new_revisions(self, hold: Hold, manifest: BackupManifest, folder: Path) -> dict[int, int]:
        """New revisions in the order of the old ones. Revisions are page keys of their system: here, those of the next
        uploads may be lower than the old ones, and would then count as older versions."""
        old = {document.revision async for kept in self._documents(hold, manifest, folder) for document in kept} - {0}
        first = await self.records.reserve_page_keys(len(old)) if old else 0
        return {revision: first + place for place, revision in enumerate(sorted(old))}

    async def _documents(
        self, hold: Hold, manifest: BackupManifest, folder: Path
    ) -> AsyncIterator[list[PackedDocument]]:
        """Some documents at a time, without those that were left out."""
        left_out = set(manifest.left_out)
        async for group in self._groups(hold, manifest, PartKind.DOCUMENTS, folder):
            found = [self.records.packed_document(record) for record in group["record"].to_pylist()]
            if kept := [document for document in found if document.id not in left_out]:
                yield kept

    async def _receive_pages(
        self, hold: Hold, manifest: BackupManifest, keys: PageKeys, writer: PartWriter, folder: Path
    ) -> None:
        async for group in self._groups(hold, manifest, PartKind.PAGES, folder):
            pages = zip(keys.new(group["page_key"].to_pylist()), group["record"].to_pylist(), strict=True)
            kept = {
                key: self.records.renumbered_page(record, key, manifest.generation)
                for key, record in pages
                if key is not None
            }
            await writer.write(pages_batch(kept))

    async def _receive_rows(
        self, hold: Hold, manifest: BackupManifest, keys: PageKeys, writer: PartWriter, folder: Path
    ) -> None:
        async for group in self._groups(hold, manifest, PartKind.ROWS, folder):
            pages = pages_of_rows(group)
            kept = {
                key: vectors
                for key, vectors in zip(keys.new(list(pages)), pages.values(), strict=True)
                if key is not None
            }
            if kept:
                await writer.write(rows_batch(kept))

    async def _copy_objects(self, hold: Hold, manifest: BackupManifest, folder: Path) -> None:
        keeper = HoldKeeper(hold)

        async def copy(expected: StoredObject) -> None:
            key = object_key(manifest.prefix, expected.key)
            await copy_object(self.source, key, self.blobs, expected.key, folder, expected)

        async def listed() -> AsyncIterator[StoredObject]:
            async for group in self._groups(hold, manifest, PartKind.OBJECTS, folder):
                for one in objects_of(group):
                    yield one

        async with aclosing(map_ordered(copy, listed(), width=OBJECTS_AT_ONCE)) as copies:
            async for _ in copies:
                await keeper.keep()

    async def _groups(
        self, hold: Hold, manifest: BackupManifest, kind: PartKind, folder: Path
    ) -> AsyncIterator[pa.Table]:
        for part in manifest.of_kind(kind):
            await hold.renew(long=True)
            path = await fetch_part(self.source, manifest.prefix + part.name, part, folder)
            groups = groups_in(path)
            while (group := await asyncio.to_thread(next, groups, None)) is not None:
                yield group
            path.unlink()


def _record_of(manifest: BackupManifest, archive: Archive) -> CollectionRecord:
    return CollectionRecord(
        name=manifest.collection,
        embedder=manifest.embedder,
        dim=manifest.dim,
        generation=manifest.generation,
        state=CollectionState.RECEIVING,
        archive=archive,
        last_used_at=datetime.now(UTC),
    )


def _exists(collection: str) -> Conflict:
    return Conflict(
        f"collection {collection!r} is there already: a backup is restored where it is not. `pagemill collections "
        f"restore {collection}` brings an archived one back; `pagemill collections drop {collection}` deletes it"
    )
