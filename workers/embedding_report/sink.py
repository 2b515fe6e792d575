"""Stores that keep next to nothing: the pipeline runs on them where no server is at hand.

They implement what a first attempt calls, and nothing else: a call of another method is an AttributeError. Records are
kept while their document is processed. Vectors, images and rows are counted and dropped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingestion.catalogue.generations import FIRST, Binding, Generation
from ingestion.errors import NotFound
from ingestion.model import Document, DocumentState, IngestJob, PageRecord, PageVectors, first_fence, source_key


class SinkRecords:
    """Documents, pages and collections."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._pages: dict[int, PageRecord] = {}
        self._keys = itertools.count(1, 10_000)
        self.failed: list[Document] = []

    def add(self, number: int, pages: int) -> IngestJob:
        """A new document and its job."""
        id_ = f"{number:032x}"
        first = next(self._keys)
        document = Document(
            id_, "report", f"{number}.pdf", source_key(id_), "0" * 64, 1, pages=pages, first_page_key=first
        )
        self._set(replace(document, state=DocumentState.QUEUED, outbox="sent", fence=first_fence(first)))
        return IngestJob.of(document)

    async def get(self, document_id: str) -> Document | None:
        return self._documents.get(document_id)

    async def require_claimable(self, document_id: str) -> None: ...

    async def claim(self, document_id: str, owner: str, lease_ms: int, **_: Any) -> Document:
        known = self._documents[document_id]
        claimed = replace(known, attempts=known.attempts + 1, fence=known.fence + 1)
        return self._set(replace(claimed, state=DocumentState.PROCESSING, owner=owner))

    async def extend(self, document_id: str, fence: int, lease_ms: int, **_: Any) -> None: ...

    async def release(self, document_id: str, fence: int, **_: Any) -> None: ...

    async def plan(
        self, document_id: str, fence: int, *, dpi: int, stage: str, pages: int | None = None, generation: int = FIRST
    ) -> Document:
        return self._set(replace(self._documents[document_id], dpi=dpi, generation=generation))

    async def checkpoint(self, document_id: str, fence: int, pages_done: int, *_: Any) -> None:
        self._set(replace(self._documents[document_id], pages_done=pages_done))

    async def finish(self, document: Document) -> Document:
        for number in range(1, document.pages + 1):
            self._pages.pop(document.page_key(number), None)
        self._documents.pop(document.id)
        return replace(document, state=DocumentState.READY, pages_done=document.pages, ready_at=datetime.now(UTC))

    async def fail(self, document_id: str, fence: int, failure: Any) -> Document:
        failed = replace(self._documents.pop(document_id), state=DocumentState.FAILED, error=failure)
        self.failed.append(failed)
        return failed

    async def postpone(self, document_id: str, fence: int, failure: Any, delay_ms: int) -> Document:
        """A failure here is no accident of a server: it will not be tried again."""
        return await self.fail(document_id, fence, failure)

    async def mark_dead_letter_sent(self, document_id: str, fence: int) -> None: ...

    async def binding(self, collection: str) -> Binding | None:
        return None

    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> Binding:
        return Binding(collection, Generation(FIRST, fingerprint, dim))

    async def put_pages(self, pages: Sequence[PageRecord]) -> None:
        self._pages |= {page.page_key: page for page in pages}

    async def pages_by_key(self, keys: Collection[int], *, with_text: bool = False) -> dict[int, PageRecord]:
        return {key: self._pages[key] for key in keys if key in self._pages}

    def _set(self, document: Document) -> Document:
        self._documents[document.id] = document
        return document


class SinkBlobs:
    """One file for all documents; objects that are written are counted."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self.written_bytes = 0
        self.objects = 0

    async def fetch_file(self, key: str, path: Path) -> None:
        await asyncio.to_thread(path.write_bytes, self._source)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        self.objects += 1
        self.written_bytes += len(data)

    async def get(self, key: str) -> bytes:
        raise NotFound(f"there is no object {key!r}")

    async def list_keys(self, prefix: str) -> list[str]:
        return []

    async def delete(self, keys: Sequence[str]) -> None: ...


class SinkVectors:
    """Counts rows."""

    def __init__(self) -> None:
        self.rows = 0

    async def ensure(self, collection: str, dim: int) -> None: ...

    async def upsert(self, collection: str, pages: Sequence[PageVectors]) -> None:
        self.rows += sum(len(page.vectors) for page in pages)


class SinkMessages:
    """JobQueue and Progress."""

    async def announce(self, document: Document) -> None: ...

    async def publish_dead_letter(self, letter: Any) -> None: ...

    async def report(self, document_id: str, **_: Any) -> None: ...

    async def add(self, **amounts: int) -> None: ...
