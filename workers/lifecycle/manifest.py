"""The manifest of an archive, `manifest.json` in its folder. It is written last: without it there is no archive."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from ingestion.catalogue.states import Archive, CollectionRecord, archive_prefix
from ingestion.errors import NewerRecord, NotFound, WorkerFault
from ingestion.ports import BlobStore

FORMAT: Final = 1
_NAME: Final = "manifest.json"


class PartKind(StrEnum):
    """A release that adds a kind raises FORMAT: a restore that left parts out would lose them."""

    DOCUMENTS = "documents"
    PAGES = "pages"
    ROWS = "rows"
    OBJECTS = "objects"
    """The list of a backup's objects. Archives have none: their objects stay where they are."""


IN_ARCHIVES: Final = (PartKind.DOCUMENTS, PartKind.PAGES, PartKind.ROWS)


class Part(BaseModel):
    """One Parquet file. `count` is the number of its records, of documents, pages or rows."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: PartKind
    count: int
    size_bytes: int
    sha256: str


class _Format(BaseModel):
    """The field that a manifest of every release has."""

    format: int


class Manifest(BaseModel):
    """`embedder` is the fingerprint of the one that the vectors, of `dim` dimensions, are of."""

    model_config = ConfigDict(frozen=True)

    format: int
    collection: str
    archive_id: str
    created_at: str
    embedder: str
    dim: int
    generation: int
    parts: tuple[Part, ...]

    def of_kind(self, kind: PartKind) -> list[Part]:
        return [part for part in self.parts if part.kind is kind]

    def key_of(self, part: Part) -> str:
        return archive_prefix(self.collection, self.archive_id) + part.name

    def summary(self) -> Archive:
        documents, pages, rows = (sum(part.count for part in self.of_kind(kind)) for kind in IN_ARCHIVES)
        return Archive(self.archive_id, documents, pages, rows, sum(part.size_bytes for part in self.parts))


async def write_manifest(blobs: BlobStore, manifest: Manifest) -> None:
    content = manifest.model_dump_json(indent=1).encode()
    await blobs.put(archive_prefix(manifest.collection, manifest.archive_id) + _NAME, content, "application/json")


async def read_manifest(blobs: BlobStore, record: CollectionRecord, archive_id: str) -> Manifest:
    """Of the collection's archive. Raises WorkerFault where it is missing, unreadable, or another's, NewerRecord where
    a newer release wrote it in another format. Fields that this release does not know are ignored."""
    key = archive_prefix(record.name, archive_id) + _NAME
    try:
        content = await blobs.get(key)
        written = _Format.model_validate_json(content)
        if written.format > FORMAT:
            raise NewerRecord(f"{key} has format {written.format}, this version reads {FORMAT}", stage="restore")
        manifest = Manifest.model_validate_json(content)
    except NotFound as error:
        raise WorkerFault(f"the archive of {record.name!r} has no {key}", stage="restore") from error
    except ValidationError as error:
        raise WorkerFault(f"{key} cannot be read: {error}", stage="restore") from error
    same = (record.name, archive_id, record.embedder, record.dim, record.generation)
    if (manifest.collection, manifest.archive_id, manifest.embedder, manifest.dim, manifest.generation) != same:
        raise WorkerFault(f"{key} is of another collection or embedder than {record.name!r}", stage="restore")
    return manifest
