"""Writes the parts of an archive: the records and rows of documents, as they are in the stores."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from ingestion.catalogue.holds import Hold
from ingestion.catalogue.states import archive_prefix
from ingestion.errors import CollectionBusy, NotFound, WorkerFault
from ingestion.ports import Archiving, BlobStore, PackedDocument, PackedPage, VectorStore
from workers.lifecycle.manifest import FORMAT, IN_ARCHIVES, Manifest, Part, PartKind, read_manifest, write_manifest
from workers.lifecycle.parts import PartWriter, count_in, documents_batch, fetch_part, pages_batch, rows_batch

PART_BYTES: Final = 64 * 1024**2
"""Size from which a file of the archive is complete."""
READ_BYTES: Final = 16 * 1024**2
"""Vectors read from the vector store at once. Each reading may cost a small server a look at all of its rows."""
_DOCUMENTS_AT_ONCE: Final = 100
_PAGES_AT_ONCE: Final = 200


class DocumentSource(Protocol):
    """Packed documents, such as `Archiving.pack_documents`."""

    def __call__(self, collection: str, *, after: int, limit: int) -> Awaitable[Sequence[PackedDocument]]: ...


async def _is_there(document: PackedDocument) -> bool:
    """A frozen document stays: no process deletes it."""
    return True


@dataclass(frozen=True, slots=True)
class _PageGroup:
    """Consecutive pages whose rows are read together. `needed`: the rows that a page of a ready document must have."""

    pages: list[PackedPage] = field(default_factory=list)
    needed: dict[int, tuple[int, PackedDocument]] = field(default_factory=dict)

    def rows_with(self, page: PackedPage) -> int:
        """The rows that a read finds at most, with this page. Keys in between may be of documents that are not packed,
        with pages like the ones here."""
        rows = [one.rows for one in (*self.pages, page)]
        others = page.page_key - self.pages[0].page_key + 1 - len(rows) if self.pages else 0
        return sum(rows) + others * max(rows)


@dataclass(frozen=True, slots=True)
class Packer:
    archiving: Archiving
    blobs: BlobStore
    vectors: VectorStore
    part_bytes: int = PART_BYTES
    read_bytes: int = READ_BYTES

    async def pack(self, hold: Hold, archive_id: str) -> Manifest:
        """Store all parts and the manifest, and read them back. The collection's documents must be frozen.

        Raises CollectionBusy where a ready document lacks rows, WorkerFault where a stored part differs from what was
        written, LeaseLost.
        """
        prefix = archive_prefix(hold.name, archive_id)
        with tempfile.TemporaryDirectory(prefix="pagemill-") as folder:
            parts = await self.write_parts(hold, prefix, Path(folder), self.archiving.pack_documents)
            manifest = Manifest(
                format=FORMAT,
                collection=hold.name,
                archive_id=archive_id,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                embedder=hold.record.embedder,
                dim=hold.record.dim,
                generation=hold.record.generation,
                parts=parts,
            )
            await write_manifest(self.blobs, manifest)
            await self.verify(hold, prefix, parts, Path(folder))
            await hold.renew()
            if await read_manifest(self.blobs, hold.record, archive_id) != manifest:
                raise WorkerFault(f"the manifest of {hold.name!r} is not what was written", stage="archive")
        return manifest

    async def write_parts(
        self,
        hold: Hold,
        prefix: str,
        folder: Path,
        source: DocumentSource,
        is_there: Callable[[PackedDocument], Awaitable[bool]] = _is_there,
    ) -> tuple[Part, ...]:
        """Store the documents of `source` with their pages and rows. Returns the parts.

        Raises CollectionBusy where a ready document lacks rows, unless it is no longer there; LeaseLost.
        """
        writers = {kind: PartWriter(kind, self.blobs, prefix, folder, self.part_bytes) for kind in IN_ARCHIVES}
        async for group in self._groups(hold, writers, source):
            await hold.renew()
            await self._write_rows(hold, group, writers[PartKind.ROWS], is_there)
        for writer in writers.values():
            await hold.renew()
            await writer.finish()
        return tuple(part for writer in writers.values() for part in writer.parts)

    async def verify(self, hold: Hold, prefix: str, parts: Sequence[Part], folder: Path) -> None:
        """Read the parts back as a restore would. Raises WorkerFault where one is not what was written."""
        for part in parts:
            await hold.renew()
            key = prefix + part.name
            try:
                path = await fetch_part(self.blobs, key, part, folder)
            except NotFound as error:
                raise WorkerFault(f"{key} has not been stored", stage="archive") from error
            if count_in(path) != part.count:
                raise WorkerFault(f"{key} does not hold {part.count} records", stage="archive")
            path.unlink()

    async def _groups(
        self, hold: Hold, writers: dict[PartKind, PartWriter], source: DocumentSource
    ) -> AsyncIterator[_PageGroup]:
        """Write the records of all documents and pages, and tell which pages' rows to read next."""
        rows_at_once = max(1, self.read_bytes // (4 * hold.record.dim))
        group = _PageGroup()
        async for document, pages in self._pages(hold, writers[PartKind.DOCUMENTS], source):
            await writers[PartKind.PAGES].write(pages_batch({page.page_key: page.record for page in pages}))
            for page in pages:
                if group.pages and group.rows_with(page) > rows_at_once:
                    yield group
                    group = _PageGroup()
                group.pages.append(page)
                if document.is_ready:
                    group.needed[page.page_key] = page.rows, document
        if group.pages:
            yield group

    async def _pages(
        self, hold: Hold, writer: PartWriter, source: DocumentSource
    ) -> AsyncIterator[tuple[PackedDocument, list[PackedPage]]]:
        """Some pages of a document at a time, in the order of page keys. Writes the documents' records."""
        after = -1
        while batch := await source(hold.name, after=after, limit=_DOCUMENTS_AT_ONCE):
            await hold.renew()
            await writer.write(documents_batch(list(batch)))
            for document in batch:
                for start in range(0, len(document.page_keys), _PAGES_AT_ONCE):
                    keys = document.page_keys[start : start + _PAGES_AT_ONCE]
                    yield document, list(await self.archiving.pack_pages(keys, hold.record.generation))
            after = batch[-1].page_keys.start

    async def _write_rows(
        self,
        hold: Hold,
        group: _PageGroup,
        writer: PartWriter,
        is_there: Callable[[PackedDocument], Awaitable[bool]],
    ) -> None:
        keys = range(group.pages[0].page_key, group.pages[-1].page_key + 1)
        found = await self.vectors.read_pages(hold.record.index, keys)
        for page_key, (rows, document) in group.needed.items():
            if len(found.get(page_key, ())) != rows and await is_there(document):
                raise CollectionBusy(
                    f"the page with key {page_key} of {hold.name!r} has {len(found.get(page_key, ()))} rows in place "
                    f"of {rows}; `pagemill janitor --check -c {hold.name}` shows what else is missing"
                )
        known = {page.page_key for page in group.pages}
        if pages := {key: vectors for key, vectors in found.items() if key in known}:
            await writer.write(rows_batch(pages))
