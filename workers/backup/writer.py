"""Writes a backup of a collection that stays in use.

The backup has every document that was ready when it began, except for those that were deleted before they were copied.
A document that becomes ready meanwhile may be in it. Each document that is in it is complete.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

import structlog

from ingestion.catalogue.generations import Binding
from ingestion.catalogue.holds import LEASE_S, Hold, held
from ingestion.catalogue.states import CollectionState
from ingestion.concurrency.tasks import map_ordered
from ingestion.errors import CollectionArchived, CollectionBusy, NotFound
from ingestion.model import DocumentState, document_prefix
from ingestion.ports import Archiving, Bindings, BlobStore, DocumentReader, Holds, PackedDocument, VectorStore
from workers.backup.manifest import BackupManifest, backup_prefix, object_key, write_backup_manifest
from workers.backup.object_copy import OBJECTS_AT_ONCE, HoldKeeper, copy_object
from workers.lifecycle.manifest import Part, PartKind
from workers.lifecycle.packer import PART_BYTES, READ_BYTES, Packer
from workers.lifecycle.parts import PartWriter, StoredObject, objects_batch

log = structlog.get_logger(__name__)

_NAMED: Final = 5
"""Documents left out that a log line names."""


class BackupRecords(Archiving, Bindings, DocumentReader, Holds, Protocol):
    """The records that a backup reads."""


@dataclass(frozen=True, slots=True)
class _Copied:
    """An object of a document, or with `found` None the end of its objects or a missing one."""

    document: PackedDocument
    is_last: bool
    found: StoredObject | None


@dataclass(frozen=True, slots=True)
class BackupWriter:
    """`target` is the store that the backup is written to. `index` is noted in the manifest."""

    records: BackupRecords
    blobs: BlobStore
    vectors: VectorStore
    target: BlobStore
    index: Mapping[str, str | int | bool] = field(default_factory=dict)
    lease_s: float = LEASE_S
    part_bytes: int = PART_BYTES
    read_bytes: int = READ_BYTES

    async def write(self, collection: str) -> BackupManifest:
        """Holds the collection meanwhile: nothing archives, restores or drops it; uploads, searches and deletions of
        documents go on.

        Raises NotFound, CollectionHeld, CollectionArchived unless the collection is active, CollectionBusy where it is
        being re-embedded or a ready document lacks rows, WorkerFault where a stored part is not what was written,
        LeaseLost, DependencyUnavailable. What an interrupted backup has stored has no manifest.
        """
        async with held(self.records, collection, self.lease_s) as hold:
            if hold.record.state is not CollectionState.ACTIVE:
                raise CollectionArchived(
                    f"collection {collection!r} is {hold.record.state.shown}: a backup is made of an active one"
                )
            binding = await self._settled_binding(collection)
            manifest = await self._store(hold, binding)
            if await self._settled_binding(collection) != binding:
                raise CollectionBusy(
                    f"collection {collection!r} was re-embedded while it was copied; repeat the backup"
                )
            await hold.renew()
            await write_backup_manifest(self.target, manifest)
        totals = manifest.totals()
        log.info(
            "collection backed up",
            collection=collection,
            backup=manifest.backup_id,
            documents=totals.documents,
            size_bytes=totals.size_bytes,
            left_out=manifest.left_out[:_NAMED],
        )
        return manifest

    async def _settled_binding(self, collection: str) -> Binding:
        binding = await self.records.binding(collection)
        if binding is None:
            raise NotFound(f"there is no collection {collection!r} with pages in it")
        if binding.next is not None or binding.leaving:
            raise CollectionBusy(f"collection {collection!r} is being re-embedded; back it up after that")
        return binding

    async def _store(self, hold: Hold, binding: Binding) -> BackupManifest:
        now = datetime.now(UTC)
        backup_id = f"{now:%Y%m%dT%H%M%S.%fZ}-{hold.token}"
        prefix = backup_prefix(hold.name, backup_id)
        packer = Packer(self.records, self.target, self.vectors, self.part_bytes, self.read_bytes)
        packed: list[PackedDocument] = []

        async def ready(collection: str, *, after: int, limit: int) -> Sequence[PackedDocument]:
            found = await self.records.pack_ready_documents(collection, after=after, limit=limit)
            packed.extend(PackedDocument(one.id, one.page_keys, one.is_ready, record="") for one in found)
            return found

        with tempfile.TemporaryDirectory(prefix="pagemill-") as folder:
            parts = await packer.write_parts(hold, prefix, Path(folder), ready, self._is_ready)
            objects, object_bytes, left_out = await self._copy_objects(hold, prefix, packed, Path(folder))
            parts = (*parts, *objects)
            await packer.verify(hold, prefix, parts, Path(folder))
        return BackupManifest(
            release=version("pagemill"),
            backup_id=backup_id,
            created_at=now.isoformat(timespec="seconds"),
            collection=hold.name,
            embedder=hold.record.embedder,
            dim=hold.record.dim,
            generation=hold.record.generation,
            retired=tuple(sorted(binding.retired)),
            index=self.index,
            parts=parts,
            object_bytes=object_bytes,
            left_out=tuple(left_out),
        )

    async def _copy_objects(
        self, hold: Hold, prefix: str, packed: Sequence[PackedDocument], folder: Path
    ) -> tuple[Sequence[Part], int, list[str]]:
        """Returns the parts that list the objects, the bytes of all objects, and the ids of documents left out.

        The state of a document is read after its last object: a deletion first changes the state, so a document that
        is still ready was complete when it was copied.
        """
        writer = PartWriter(PartKind.OBJECTS, self.target, prefix, folder, self.part_bytes)
        keeper, left_out, object_bytes = HoldKeeper(hold), list[str](), 0
        found: list[StoredObject] = []

        async def copy(item: tuple[PackedDocument, str]) -> _Copied:
            document, key = item
            if not key:
                return _Copied(document, is_last=True, found=None)
            try:
                stored = await copy_object(self.blobs, key, self.target, object_key(prefix, key), folder)
            except NotFound:
                stored = None
            return _Copied(document, is_last=False, found=stored)

        async with aclosing(map_ordered(copy, self._objects(packed), width=OBJECTS_AT_ONCE)) as copies:
            async for copied in copies:
                await keeper.keep()
                if copied.found is not None:
                    found.append(copied.found)
                if not copied.is_last:
                    continue
                if not await self._is_ready(copied.document):
                    left_out.append(copied.document.id)
                elif found:
                    await writer.write(objects_batch(found))
                    object_bytes += sum(one.size_bytes for one in found)
                found = []
        await hold.renew()
        await writer.finish()
        return writer.parts, object_bytes, left_out

    async def _objects(self, packed: Sequence[PackedDocument]) -> AsyncIterator[tuple[PackedDocument, str]]:
        """The keys of each document's objects, and then an empty key."""
        for document in packed:
            for key in await self.blobs.list_keys(document_prefix(document.id)):
                yield document, key
            yield document, ""

    async def _is_ready(self, document: PackedDocument) -> bool:
        found = await self.records.get(document.id)
        return (
            found is not None
            and found.state is DocumentState.READY
            and found.first_page_key == document.page_keys.start
        )
