"""A document that needs a conversion: its pages are counted later, and its PDF is removed with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ingestion.errors import ConversionFailed, ConverterUnavailable
from ingestion.formats.media_types import MediaType
from ingestion.model import (
    PDF_MEDIA_TYPE,
    Document,
    DocumentState,
    TextPages,
    converted_key,
    document_prefix,
    source_key,
)
from tests.support.memory_worker import COLLECTION, DELAYS_S, MemoryWorker, job

S = DocumentState


@dataclass
class ScriptedConverter:
    """Makes a PDF of `pages` pages, as the scripted renderer reads it. Awaits `before` first."""

    pages: int = 3
    before: Callable[[], Awaitable[None]] | None = None
    error: Exception | None = None
    converted: list[str] = field(default_factory=list)

    async def convert(self, source: Path, media_type: str, target: Path, *, caller: str = "") -> None:
        self.converted.append(media_type)
        if self.before is not None:
            await self.before()
        if self.error is not None:
            raise self.error
        target.write_text(str(self.pages))


@pytest.fixture
def worker() -> MemoryWorker:
    return MemoryWorker()


async def uploaded(worker: MemoryWorker, media_type: MediaType = MediaType.DOCX) -> Document:
    first = await worker.documents.reserve_page_keys(media_type.most_pages)
    key = source_key("d1", media_type.extension)
    document = Document(
        "d1", COLLECTION, "letter", key, "0" * 64, 1, pages=0, first_page_key=first, media_type=media_type.value
    )
    await worker.blobs.put(key, b"a letter", media_type.value)
    await worker.documents.insert(document)
    await worker.documents.mark_queued(document)
    return document


async def attempt(worker: MemoryWorker, document: Document, converter: ScriptedConverter) -> Document | None:
    await replace(worker.pipeline, converter=converter).run(job(document))
    return await worker.documents.get(document.id)


async def test_pages_are_counted_after_the_conversion_and_stored_once(worker: MemoryWorker) -> None:
    document = await uploaded(worker)
    ready = await attempt(worker, document, converter := ScriptedConverter())
    assert ready is not None
    assert (ready.state, ready.pages, ready.pages_done) == (S.READY, 3, 3)
    assert ready.text_pages is not None and ready.text_pages.file + ready.text_pages.none == 3
    assert converter.converted == [MediaType.DOCX]
    assert await worker.blobs.get(converted_key(document.id)) == b"3"
    assert await worker.blobs.get(document.object_key) == b"a letter"
    assert sorted(await worker.documents.pages_by_key(ready.page_keys)) == list(ready.page_keys)


async def test_a_document_that_is_queued_anew_is_converted_anew_if_its_pages_were_never_counted(
    worker: MemoryWorker,
) -> None:
    document = await uploaded(worker)
    await worker.blobs.put(converted_key(document.id), b"does not open", PDF_MEDIA_TYPE)
    ready = await attempt(worker, document, ScriptedConverter())
    assert ready is not None
    assert (ready.state, ready.pages) == (S.READY, 3)
    assert await worker.blobs.get(converted_key(document.id)) == b"3"


async def test_the_next_attempt_needs_no_conversion(worker: MemoryWorker) -> None:
    document = await uploaded(worker)
    converter = ScriptedConverter()
    worker.embedder.error = RuntimeError("for a test")
    postponed = await attempt(worker, document, converter)
    assert postponed is not None and (postponed.state, postponed.pages) == (S.QUEUED, 3)
    worker.embedder.error = None
    worker.clock.advance(DELAYS_S[0])
    ready = await attempt(worker, document, converter)
    assert ready is not None and ready.state is S.READY
    assert len(converter.converted) == 1


async def test_a_failed_conversion_fails_the_document_and_an_unavailable_server_postpones_it(
    worker: MemoryWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    document = await uploaded(worker)
    postponed = await attempt(worker, document, ScriptedConverter(error=ConverterUnavailable("down")))
    assert postponed is not None and postponed.state is S.QUEUED
    worker.clock.advance(DELAYS_S[0])
    failed = await attempt(worker, document, ScriptedConverter(error=ConversionFailed("damaged")))
    assert failed is not None and failed.error is not None
    assert (failed.state, failed.error.code, failed.error.stage) == (S.FAILED, "conversion_failed", "convert")


async def test_a_picture_with_more_pages_than_keys_fails(worker: MemoryWorker) -> None:
    document = await uploaded(worker, MediaType.PNG)
    failed = await attempt(worker, document, ScriptedConverter(pages=2))
    assert failed is not None and failed.error is not None
    assert (failed.state, failed.error.code) == (S.FAILED, "too_many_pages")


async def test_a_delete_during_the_conversion_leaves_no_object(worker: MemoryWorker) -> None:
    document = await uploaded(worker)

    async def delete() -> None:
        deleting = await worker.documents.begin_delete(document.id)
        await worker.blobs.delete_prefix(document_prefix(document.id))
        await worker.documents.remove(deleting)

    source_is_read_before = ScriptedConverter(before=delete)
    assert await attempt(worker, document, source_is_read_before) is None
    assert await worker.blobs.list_keys(document_prefix(document.id)) == []


async def test_a_document_that_an_earlier_release_began_has_no_counts_of_texts(worker: MemoryWorker) -> None:
    document = await worker.uploaded()
    begun = await worker.documents.claim(document.id, "w0", 60_000)
    await worker.documents.checkpoint(document.id, begun.fence, 2)
    await worker.documents.release(document.id, begun.fence)
    await worker.pipeline.run(job(document))
    ready = await worker.read(document)
    assert (ready.state, worker.embedder.seen, ready.text_pages) == (S.READY, [3, 4], None)


def test_counts_of_texts_add_up() -> None:
    assert TextPages(file=1).plus([]) == TextPages(file=1)
