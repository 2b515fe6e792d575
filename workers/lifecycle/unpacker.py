"""Restores the contents of an archive. Records and rows are replaced by their keys, so this may be repeated."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ingestion.catalogue.holds import Hold
from ingestion.catalogue.states import Archive
from ingestion.errors import NotFound, WorkerFault
from ingestion.model import Page, PageVectors
from ingestion.ports import Archiving, BlobStore, VectorStore
from workers.lifecycle.manifest import Manifest, PartKind, read_manifest
from workers.lifecycle.parts import fetch_part, groups_in, pages_of_rows

_NO_PAGE = Page(page_number=0, width_px=0, height_px=0, image=b"", text="")
"""Rows are written by page key and vectors alone."""


@dataclass(frozen=True, slots=True)
class Unpacker:
    archiving: Archiving
    blobs: BlobStore
    vectors: VectorStore

    async def unpack(self, hold: Hold, archive: Archive) -> None:
        """Restore documents, frozen, then pages, then rows: in another order an audit would take them for orphans.

        Raises WorkerFault where the archive is damaged or the restored counts are wrong, LeaseLost.
        """
        manifest = await read_manifest(self.blobs, hold.record, archive.id)
        async for group in self._groups(hold, manifest, PartKind.DOCUMENTS):
            await self.archiving.unpack_documents(hold.name, archive.id, group["record"].to_pylist())
        async for group in self._groups(hold, manifest, PartKind.PAGES):
            await self.archiving.unpack_pages(group["record"].to_pylist())
        await hold.renew(long=True)
        await self.vectors.ensure(hold.record.index, manifest.dim)
        async for group in self._groups(hold, manifest, PartKind.ROWS):
            pages = [PageVectors(_NO_PAGE, key, vectors) for key, vectors in pages_of_rows(group).items()]
            await self.vectors.upsert(hold.record.index, pages)
        if hold.record.index != hold.name:
            await self.vectors.point(hold.name, hold.record.index)
        await self._verify(hold, archive)

    async def _groups(self, hold: Hold, manifest: Manifest, kind: PartKind) -> AsyncIterator[pa.Table]:
        with tempfile.TemporaryDirectory(prefix="pagemill-") as folder:
            for part in manifest.of_kind(kind):
                await hold.renew()
                try:
                    path = await fetch_part(self.blobs, manifest.key_of(part), part, Path(folder))
                except NotFound as error:
                    raise WorkerFault(f"{manifest.key_of(part)} is missing", stage="restore") from error
                groups = groups_in(path)
                while (group := await asyncio.to_thread(next, groups, None)) is not None:
                    await hold.renew()
                    yield group
                path.unlink()

    async def _verify(self, hold: Hold, archive: Archive) -> None:
        await hold.renew(long=True)
        documents, pages = await self.archiving.count_frozen(hold.name, archive.id)
        rows = await self.vectors.count(hold.record.index)
        if (documents, pages, rows) == (archive.documents, archive.pages, archive.rows):
            return
        await self.vectors.drop(
            hold.record.index
        )  # Should it be what has too many rows, the next attempt starts clean.
        raise WorkerFault(
            f"of {archive.documents} documents, {archive.pages} pages and {archive.rows} rows of {hold.name!r} there "
            f"are {documents}, {pages} and {rows} after restoring; repeat it",
            stage="restore",
        )
