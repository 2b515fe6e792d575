"""What a stream shows of a document's progress."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ingestion.api.progress import ProgressReader
from ingestion.api.views import OutageView, ProgressView
from ingestion.model import Document
from tests.memory import MemoryDocumentStore, MemoryProgress
from tests.support.documents import S, document, in_state


class Watch:
    """A stream's reader over stores in memory, with a clock that only the test moves."""

    def __init__(self) -> None:
        self.store = MemoryDocumentStore()
        self.progress = MemoryProgress()
        self.now_s = 100.0
        self.reader = ProgressReader(self.store, self.progress, clock=lambda: self.now_s)

    async def view(self, document: Document) -> ProgressView:
        [view] = await self.reader.views([document])
        return view


@pytest.fixture
def watch() -> Watch:
    return Watch()


def processing(pages: int = 10, **changes: object) -> Document:
    held = {"state": S.PROCESSING, "lease_until_ms": round((time.time() + 60) * 1000), "stage": "render"}
    return replace(document(), pages=pages, **{**held, **changes})  # type: ignore[arg-type]


async def report(watch: Watch, processed: int, message: str = "") -> None:
    await watch.progress.report("d1", status="processing", message=message, processed=processed, total=10)


async def test_pages_are_those_of_the_record_or_of_the_newer_report(watch: Watch) -> None:
    assert (await watch.view(processing(pages_done=2))).pages_done == 2
    await report(watch, 4, "reading pages")
    view = await watch.view(processing(pages_done=2))
    assert (view.pages_done, view.message, view.stage) == (4, "reading pages", "render")


async def test_pages_never_fall_within_an_upload(watch: Watch) -> None:
    await report(watch, 9)
    assert (await watch.view(processing(pages_done=8))).pages_done == 9
    await report(watch, 8)
    assert (await watch.view(processing(pages_done=8, attempts=2))).pages_done == 9
    assert (await watch.view(replace(processing(pages_done=8), state=S.QUEUED))).pages_done == 9


async def test_another_upload_of_the_file_begins_anew(watch: Watch) -> None:
    await report(watch, 9)
    await watch.view(processing(pages_done=8))
    await watch.progress.forget("d1")
    assert (await watch.view(processing(first_page_key=500))).pages_done == 0


@pytest.mark.parametrize("reported", ["11", "-1", "x", "", "9" * 40])
async def test_a_report_that_cannot_be_right_is_no_progress(watch: Watch, reported: str) -> None:
    watch.progress.tasks["d1"] = {"processed": reported, "status": "processing"}
    assert (await watch.view(processing(pages_done=3))).pages_done in (3, 10)


async def test_the_time_left_follows_from_the_pages_that_the_stream_saw(watch: Watch) -> None:
    assert (await watch.view(processing(pages_done=2))).seconds_left is None
    watch.now_s += 10
    assert (await watch.view(processing(pages_done=4))).seconds_left == 30
    watch.now_s += 5
    assert (await watch.view(processing(pages_done=4))).seconds_left == 30
    assert (await watch.view(replace(processing(pages_done=10), state=S.READY))).seconds_left is None


async def test_a_document_whose_worker_died_says_so(watch: Watch) -> None:
    await report(watch, 1, "reading pages")
    assert (await watch.view(processing())).message == "reading pages"
    dead = processing(lease_until_ms=round((time.time() - 60) * 1000))
    assert "worker has stopped" in (await watch.view(dead)).message


async def test_a_report_of_an_earlier_state_is_not_shown(watch: Watch) -> None:
    await report(watch, 1, "reading pages")
    assert (await watch.view(replace(document(), state=S.QUEUED))).message == ""


async def test_outages_are_shown_until_the_document_is_settled(watch: Watch) -> None:
    since = datetime(2026, 1, 2, tzinfo=UTC)
    await watch.progress.report_outages({"milvus": since})
    for state in (S.RECEIVED, S.QUEUED, S.PROCESSING):
        view = await watch.view(replace(processing(), state=state))
        assert view.waits_for == [OutageView(dependency="milvus", since=since)]
    assert (await watch.view(replace(document(), state=S.READY))).waits_for == []


async def test_the_documents_before_it_are_counted_while_it_waits(watch: Watch) -> None:
    for name in ("a", "b"):
        await in_state(watch.store, S.QUEUED, name)
        watch.store.clock.advance(1)
    last = await in_state(watch.store, S.QUEUED, "d1")
    assert (await watch.view(last)).waiting_before == 2
    await watch.store.claim("a", "w", 60_000)
    assert (await watch.view(last)).waiting_before == 2  # counted some moments ago
    watch.now_s += 5
    assert (await watch.view(last)).waiting_before == 1
    assert (await watch.view(replace(last, state=S.PROCESSING))).waiting_before is None


async def test_a_look_at_many_documents_counts_few_places_and_the_others_next(watch: Watch) -> None:
    waiting = []
    for number in range(50):
        waiting.append(await in_state(watch.store, S.QUEUED, f"d{number:02}"))
        watch.store.clock.advance(1)
    counted = [sum(view.waiting_before is not None for view in await watch.reader.views(waiting)) for _ in range(3)]
    assert counted == [20, 40, 50]
    assert [view.waiting_before for view in await watch.reader.views(waiting)] == list(range(50))
