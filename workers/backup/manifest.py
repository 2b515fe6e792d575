"""The manifest of a backup: the collection's own record, and the parts. It is written last: without it there is no
backup.

    COLLECTION/manifests/ID.json                    ids begin with the time, so their order is that of the backups
    COLLECTION/ID/documents-00001.parquet, …        the parts, as in an archive, and the list of objects
    COLLECTION/ID/objects/documents/…               uploads, page images, vectors and sign codes, under their own keys
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from ingestion.errors import NewerRecord, NotFound, WorkerFault
from ingestion.ports import BlobStore
from workers.lifecycle.manifest import Part, PartKind

FORMAT: Final = 1


class _Format(BaseModel):
    """The field that a manifest of every release has."""

    backup_format: int


class BackupManifest(BaseModel):
    """`embedder` is the fingerprint of the one that the vectors, of `dim` dimensions, are of. `retired` are those of
    its predecessors. `index` are the settings of the index that the vectors were in; a restore uses its own."""

    model_config = ConfigDict(frozen=True)

    backup_format: int = FORMAT
    release: str
    backup_id: str
    created_at: str
    collection: str
    embedder: str
    dim: int
    generation: int
    retired: tuple[str, ...]
    index: Mapping[str, str | int | bool]
    parts: tuple[Part, ...]
    object_bytes: int
    left_out: tuple[str, ...]
    """Documents that were deleted while they were copied. Parts may hold something of them."""

    @property
    def prefix(self) -> str:
        return backup_prefix(self.collection, self.backup_id)

    def of_kind(self, kind: PartKind) -> list[Part]:
        return [part for part in self.parts if part.kind is kind]

    def totals(self) -> BackupTotals:
        documents, pages, rows, objects = (sum(part.count for part in self.of_kind(kind)) for kind in PartKind)
        size_bytes = self.object_bytes + sum(part.size_bytes for part in self.parts)
        return BackupTotals(documents - len(self.left_out), pages, rows, objects, size_bytes)


@dataclass(frozen=True, slots=True)
class BackupTotals:
    """`pages`, `rows` and `objects` are those in the parts, also of documents that were left out."""

    documents: int
    pages: int
    rows: int
    objects: int
    size_bytes: int


def backup_prefix(collection: str, backup_id: str) -> str:
    return f"{collection}/{backup_id}/"


def object_key(manifest_prefix: str, key: str) -> str:
    """The key in the backup of an object that has `key` in the installation."""
    return f"{manifest_prefix}objects/{key}"


async def write_backup_manifest(target: BlobStore, manifest: BackupManifest) -> None:
    content = manifest.model_dump_json(indent=1).encode()
    await target.put(_manifest_key(manifest.collection, manifest.backup_id), content, "application/json")


async def backup_ids(source: BlobStore, collection: str) -> list[str]:
    """Those of the complete backups, the oldest first."""
    prefix = _manifests_prefix(collection)
    return sorted(key.removeprefix(prefix).removesuffix(".json") for key in await source.list_keys(prefix))


async def read_backup_manifest(source: BlobStore, collection: str, backup_id: str = "") -> BackupManifest:
    """That of the backup, or of the latest one. Raises NotFound, WorkerFault where it is unreadable, NewerRecord."""
    known = await backup_ids(source, collection)
    chosen = backup_id or (known[-1] if known else "")
    if chosen not in known:
        there = f"there are {', '.join(known[-5:])}" if known else "there is none of that collection"
        raise NotFound(f"there is no backup {backup_id} of {collection!r}: {there}".replace("  ", " "))
    key = _manifest_key(collection, chosen)
    content = await source.get(key)
    try:
        written = _Format.model_validate_json(content)
        if written.backup_format > FORMAT:
            raise NewerRecord(
                f"{key} has format {written.backup_format}, this version reads {FORMAT}", stage="restore"
            )
        return BackupManifest.model_validate_json(content)
    except ValidationError as error:
        raise WorkerFault(f"{key} cannot be read: {error}", stage="restore") from error


def _manifests_prefix(collection: str) -> str:
    return f"{collection}/manifests/"


def _manifest_key(collection: str, backup_id: str) -> str:
    return f"{_manifests_prefix(collection)}{backup_id}.json"
