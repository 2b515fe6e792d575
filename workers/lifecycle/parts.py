"""The Parquet files of an archive or a backup: records as JSON, and rows as they are in the vector store.

    documents-00001.parquet   id string, record string (extended JSON)
    pages-00001.parquet       page_key int64, record string (extended JSON)
    rows-00001.parquet        pk int64, page_key int64, vector fixed-size list of float32; whole pages in a row group
    objects-00001.parquet     key string, size_bytes int64, sha256 string; backups only

A part is written to a file and stored when it has grown to its limit, so memory holds one batch of each kind.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.errors import WorkerFault
from ingestion.model import ROWS_PER_PAGE, Vectors
from ingestion.ports import BlobStore, PackedDocument
from ingestion.retrying import retrying
from workers.lifecycle.manifest import Part, PartKind

_CONTENT_TYPE: Final = "application/vnd.apache.parquet"
_HASHED_BYTES: Final = 1024 * 1024
_DOCUMENT: Final = pa.schema([("id", pa.string()), ("record", pa.string())])
_PAGE: Final = pa.schema([("page_key", pa.int64()), ("record", pa.string())])
_OBJECT: Final = pa.schema([("key", pa.string()), ("size_bytes", pa.int64()), ("sha256", pa.string())])


class PartWriter:
    """Parts of one kind. Nothing of a part is stored before it is complete."""

    def __init__(self, kind: PartKind, blobs: BlobStore, prefix: str, folder: Path, part_bytes: int) -> None:
        self._kind = kind
        self._blobs = blobs
        self._prefix = prefix
        self._folder = folder
        self._part_bytes = part_bytes
        self._file: pq.ParquetWriter | None = None
        self._count = 0
        self.parts: list[Part] = []

    async def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            await asyncio.to_thread(self._append, batch)
        if self._file is not None and self._path.stat().st_size >= self._part_bytes:
            await self.finish()

    async def finish(self) -> None:
        """Store what has been written since the last part."""
        if self._file is None:
            return
        path, name = self._path, self._name
        await asyncio.to_thread(self._file.close)
        sha256, size_bytes = await asyncio.to_thread(fingerprint_of, path)
        await retrying(self._blobs.put_file, self._prefix + name, path, _CONTENT_TYPE)
        self.parts.append(Part(name=name, kind=self._kind, count=self._count, size_bytes=size_bytes, sha256=sha256))
        path.unlink()
        self._file, self._count = None, 0

    @property
    def _name(self) -> str:
        return f"{self._kind.value}-{len(self.parts) + 1:05d}.parquet"

    @property
    def _path(self) -> Path:
        return self._folder / self._name

    def _append(self, batch: pa.RecordBatch) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, batch.schema, compression="zstd")
        self._file.write_batch(batch)
        self._count += batch.num_rows


def fingerprint_of(path: Path) -> tuple[str, int]:
    """SHA-256 and size in bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_HASHED_BYTES):
            digest.update(piece)
        return digest.hexdigest(), file.tell()


async def fetch_part(blobs: BlobStore, key: str, part: Part, folder: Path) -> Path:
    """The part as a file in `folder`. Raises NotFound, WorkerFault where it is not what was written."""
    path = folder / part.name
    await retrying(blobs.fetch_file, key, path)
    if await asyncio.to_thread(fingerprint_of, path) != (part.sha256, part.size_bytes):
        raise WorkerFault(f"{key} is not what was written", stage="archive")
    return path


def count_in(path: Path) -> int:
    """The number of records in a part."""
    return int(pq.read_metadata(path).num_rows)


def groups_in(path: Path) -> Iterator[pa.Table]:
    """A part's records, batch by batch as they were written."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def documents_batch(documents: list[PackedDocument]) -> pa.RecordBatch:
    ids, records = [document.id for document in documents], [document.record for document in documents]
    return pa.record_batch([pa.array(ids), pa.array(records)], schema=_DOCUMENT)


def pages_batch(pages: Mapping[int, str]) -> pa.RecordBatch:
    """`pages`: records by page key."""
    return pa.record_batch([pa.array(pages, pa.int64()), pa.array(pages.values(), pa.string())], schema=_PAGE)


@dataclass(frozen=True, slots=True)
class StoredObject:
    key: str
    size_bytes: int
    sha256: str


def objects_batch(objects: list[StoredObject]) -> pa.RecordBatch:
    columns = zip(*((one.key, one.size_bytes, one.sha256) for one in objects), strict=True)
    return pa.record_batch([list(column) for column in columns], schema=_OBJECT)


def objects_of(table: pa.Table) -> list[StoredObject]:
    """The inverse of `objects_batch`."""
    return [StoredObject(**row) for row in table.to_pylist()]


def rows_batch(pages: dict[int, Vectors]) -> pa.RecordBatch:
    """`pages`: (rows, dim) float32 by page key, all of one dim, at least one row."""
    keys = np.concatenate([np.full(len(vectors), key, np.int64) for key, vectors in pages.items()])
    patches = np.concatenate([np.arange(len(vectors), dtype=np.int64) for vectors in pages.values()])
    vectors = np.concatenate(list(pages.values()))  # (rows, dim)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.record_batch(
        [pa.array(keys * ROWS_PER_PAGE + patches), pa.array(keys), column], names=["pk", "page_key", "vector"]
    )


def pages_of_rows(rows: pa.Table) -> dict[int, Vectors]:
    """The inverse of `rows_batch`."""
    keys = rows["page_key"].to_numpy()
    column = rows["vector"].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(len(keys), column.type.list_size)  # (rows, dim)
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1)).tolist()
    return {int(keys[start]): vectors[start:stop] for start, stop in pairwise([*starts, len(keys)])}
