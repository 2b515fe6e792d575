"""An outage costs no attempt. A document that has an outage in each attempt fails in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ingestion.bootstrap import Services
from ingestion.errors import DependencyUnavailable
from ingestion.model import OUTAGES_FORGIVEN, Document, DocumentState, Failure, Page, Vectors
from tests.support.pipelines import WINDOW, ScriptedEmbedder, job, pipeline, read, submitted
from workers.attempt.store import PageStore
from workers.pipeline import Pipeline

S = DocumentState
DEADLINE_S = 60.0


class FragileEmbedder(ScriptedEmbedder):
    """The service goes down at each page from `down_from` on."""

    def __init__(self, down_from: int = 1) -> None:
        super().__init__()
        self.down_from = down_from

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        if pages[-1].page_number >= self.down_from:
            raise DependencyUnavailable("embedder", "it went down")
        return await super().embed_pages(pages)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are not retried within an attempt."""
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)


async def meets_outage(worker: Pipeline, document: Document) -> None:
    with pytest.raises(DependencyUnavailable):
        await worker.run(job(document))


async def meets_outages(worker: Pipeline, document: Document, times: int, server: str = "embedder") -> None:
    """One outage that any document can have, and the outages that only this document has."""
    await meets_outage(worker, document)
    for _ in range(times):
        worker.evidence.add_success(server, document_id="another")
        await meets_outage(worker, document)


async def test_an_outage_that_lasts_costs_nothing_however_often_it_is_met(services: Services, tmp_path: Path) -> None:
    documents = [await submitted(services, tmp_path / f"{word}.pdf", pages=2, word=word) for word in ("one", "two")]
    worker = pipeline(services, FragileEmbedder())
    for _ in range(OUTAGES_FORGIVEN + worker.max_attempts + 1):
        for document in documents:
            await meets_outage(worker, document)
    for document in documents:
        waiting = await read(services, document)
        assert (waiting.state, waiting.attempts, waiting.outages) == (S.QUEUED, 0, 0)


async def no_wait(services: Services, document: Document) -> None:
    documents = cast(Any, services.documents)._documents
    await documents.update_one({"_id": document.id}, {"$set": {"lease_until": 0}})


async def test_outages_are_given_back_and_then_count_until_there_is_a_letter_with_the_cause(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=2)
    worker = pipeline(services, FragileEmbedder())
    await meets_outages(worker, document, OUTAGES_FORGIVEN)
    forgiven = await read(services, document)
    assert (forgiven.state, forgiven.attempts, forgiven.outages) == (S.QUEUED, 0, OUTAGES_FORGIVEN)
    for attempt in range(1, worker.max_attempts):
        worker.evidence.add_success("embedder", document_id="another")
        await worker.run(job(document))
        put_off = await read(services, document)
        assert (put_off.state, put_off.attempts) == (S.QUEUED, attempt)
        await no_wait(services, document)
    worker.evidence.add_success("embedder", document_id="another")
    await worker.run(job(document))
    failed = await read(services, document)
    assert (failed.state, failed.letter) == (S.FAILED, "sent")
    assert failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("fails_alone", "embed")
    assert "it went down" in failed.error.message


async def test_outages_of_a_document_that_progresses_are_not_counted(services: Services, tmp_path: Path) -> None:
    windows = OUTAGES_FORGIVEN + 2
    document = await submitted(services, tmp_path / "a.pdf", pages=windows * WINDOW)
    embedder = FragileEmbedder()
    worker = pipeline(services, embedder)
    for window in range(1, windows):
        embedder.down_from = (window + 1) * WINDOW
        await meets_outages(worker, document, 1)
    embedder.down_from = windows * WINDOW + 1
    await worker.run(job(document))
    ready = await read(services, document)
    assert (ready.state, ready.attempts) == (S.READY, 1)


async def test_after_some_outages_a_document_works_alone(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=2)
    embedder = FragileEmbedder()
    worker = pipeline(services, embedder)
    await meets_outages(worker, document, 2)
    embedder.down_from, embedder.hold_at = 99, 1
    async with asyncio.timeout(DEADLINE_S):
        working = asyncio.create_task(worker.run(job(document)))
        await embedder.holding.wait()
        assert worker.document_lock.is_exclusive_wanted
        embedder.go_on.set()
        await working


async def test_a_replayed_document_begins_without_outages(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=2)
    worker = pipeline(services, FragileEmbedder())
    await meets_outages(worker, document, 3)
    claimed = await services.documents.claim(document.id, "w", 1000)
    await services.documents.fail(document.id, claimed.fence, Failure("x", "y", "z"))
    assert await services.documents.requeue(document.id)
    assert (await read(services, document)).outages == 0


class TooLarge(PageStore):
    """A store that does not take this document's pages, and takes everything else."""

    async def write(self, document: Document, window: Any, codes: Any = None) -> None:
        raise DependencyUnavailable("s3", "ReadTimeout", stage="store")


async def test_a_store_that_fails_at_one_document_alone_ends_it_and_no_other(
    services: Services, tmp_path: Path
) -> None:
    document = await submitted(services, tmp_path / "a.pdf", pages=2)
    other = await submitted(services, tmp_path / "b.pdf", pages=2, word="other")
    whole = pipeline(services, ScriptedEmbedder())
    worker = replace(whole, store=TooLarge(services.documents, services.blobs, services.vectors))
    await meets_outages(worker, document, OUTAGES_FORGIVEN, server="s3")
    await whole.run(job(other))
    for _ in range(worker.max_attempts):
        worker.evidence.add_success("s3", document_id="another")
        await no_wait(services, document)
        await worker.run(job(document))
    failed = await read(services, document)
    assert failed.state is S.FAILED
    assert failed.error is not None and (failed.error.code, failed.error.stage) == ("fails_alone", "store")
    assert (await read(services, other)).state is S.READY
