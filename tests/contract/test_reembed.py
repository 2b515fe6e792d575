"""Another embedder for a collection in use, on real stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingestion.bootstrap import Services
from ingestion.catalogue.generations import index_of
from ingestion.errors import Conflict, DependencyUnavailable, EmbedderMismatch, EmbedderNotCurrent
from ingestion.model import DocumentState, Page, TextPages, Vectors, codes_key
from tests.support.embedders import WordEmbedder
from tests.support.nearest import rows_of
from tests.support.pipelines import DEADLINE_S, ScriptedEmbedder, job, pipeline, read, submitted
from tests.support.reembedding import (
    NEW,
    OLD,
    STEPS,
    ActingEmbedder,
    Answer,
    Killed,
    Library,
    PixelEmbedder,
    Reaper,
    RememberingQueue,
    ScriptedWords,
    blobs_of,
    open_library,
    reembedder,
)


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Library]:
    async with open_library(services, collection) as shelf:
        yield shelf


async def test_a_reembedding_keeps_all_pages_and_leaves_no_old_vectors(shelf: Library) -> None:
    documents = [await shelf.put(name, pages) for name, pages in (("a", 3), ("b", 1), ("c", 4))]
    before = await shelf.answer()
    bound = await reembedder(shelf.services).run(shelf.collection)
    after = await shelf.answer()
    assert [place[:2] for place in after] == [place[:2] for place in before]
    assert len(after) == 8
    assert {score for *_, score in after} != {score for *_, score in before}
    assert (bound.current.number, bound.current.fingerprint) == (2, NEW.fingerprint)
    assert (bound.next, bound.leaving) == (None, ())
    assert await shelf.mismatches() == []
    for document in documents:
        assert await shelf.blob_keys(document) == blobs_of(document, 2)
        assert await shelf.code_keys(document) == {codes_key(document.id, 1, 2)}
    assert await shelf.services.vectors.count(index_of(shelf.collection, 2)) == 8 * 3
    again = ScriptedWords()
    assert await reembedder(shelf.services, again).run(shelf.collection) == bound
    assert again.seen == []


class Silent(WordEmbedder):
    """Finds nothing on the first page of a document."""

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return [
            np.zeros((0, self.dim), np.float32) if page.page_number == 1 else self._embed(page.text) for page in pages
        ]


async def test_a_reembedding_counts_the_pages_that_no_search_finds_anew(shelf: Library) -> None:
    written = await shelf.write(await shelf.begun("a", 3))
    ready = await shelf.services.documents.finish(replace(written, text_pages=TextPages(file=3)))
    for embedder, unsearchable in ((Silent(model="silent"), 1), (NEW, 0)):
        await reembedder(shelf.services, embedder).run(shelf.collection)
        found = await shelf.services.documents.get(ready.id)
        assert found is not None and found.text_pages == TextPages(file=3, unsearchable=unsearchable)
    assert await shelf.mismatches() == []


async def test_other_clients_of_the_vector_store_find_the_newest_generation_under_the_old_name(
    shelf: Library,
) -> None:
    await shelf.put("a", 2)
    await reembedder(shelf.services).run(shelf.collection)
    assert await shelf.services.vectors.count(shelf.collection) == 2 * 3
    bound = await reembedder(shelf.services, WordEmbedder(dim=24)).run(shelf.collection)
    assert (bound.current.number, bound.current.dim) == (3, 24)
    assert await shelf.services.vectors.count(shelf.collection) == 2 * 3
    assert await shelf.services.vectors.count(index_of(shelf.collection, 2)) == 0
    assert await shelf.mismatches() == []


async def test_a_search_sees_the_old_or_the_new_and_never_a_mixture(shelf: Library) -> None:
    for name in ("a", "b", "c"):
        await shelf.put(name)
    seen: list[Answer] = [await shelf.answer()]
    finished = asyncio.Event()

    async def hammer() -> None:
        searcher = shelf.searcher()
        while not finished.is_set():
            seen.append(await shelf.answer(searcher))

    clients = [asyncio.create_task(hammer()) for _ in range(3)]
    try:
        await reembedder(shelf.services).run(shelf.collection)
    finally:
        finished.set()
        await asyncio.gather(*clients)
    new = await shelf.answer()
    old = seen[0]
    assert all(answer in (old, new) for answer in seen)
    assert old != new
    assert seen.count(old) > 3


async def test_documents_uploaded_meanwhile_are_in_both_generations_and_deleted_ones_in_neither(
    shelf: Library,
) -> None:
    for name in ("a", "b", "c"):
        await shelf.put(name)
    old_answers = []

    async def come_and_go() -> None:
        await shelf.put("late", 5)
        await shelf.delete("a")
        await shelf.delete("c")
        old_answers.append(await shelf.pages_found())

    await reembedder(shelf.services, ActingEmbedder(come_and_go)).run(shelf.collection)
    expected = {shelf.id_of("b"): 3, shelf.id_of("late"): 5}
    assert old_answers == [expected]
    assert await shelf.pages_found() == expected
    assert await shelf.mismatches() == []
    assert await shelf.services.vectors.count(index_of(shelf.collection, 2)) == 8 * 3


async def test_a_document_that_is_deleted_and_uploaded_again_meanwhile_is_found_once(shelf: Library) -> None:
    await shelf.put("a", 3)

    async def renew() -> None:
        await shelf.delete("a")
        await shelf.put("a", 3)

    await reembedder(shelf.services, ActingEmbedder(renew)).run(shelf.collection)
    assert await shelf.pages_found() == {shelf.id_of("a"): 3}
    assert await shelf.mismatches() == []


async def test_prepare_raises_embedder_not_current_after_the_generation_is_closed(shelf: Library) -> None:
    await shelf.put("a")
    begun = await shelf.begun("late", 2)
    bound = await shelf.services.documents.begin_generation(shelf.collection, NEW.fingerprint, NEW.dim)
    assert bound.next is not None
    await shelf.services.documents.close_generation(shelf.collection, bound.next.number)
    with pytest.raises(EmbedderNotCurrent):
        await shelf.store.prepare(begun, OLD)


async def test_a_reembedding_killed_at_any_step_finishes_when_repeated(shelf: Library) -> None:
    for name in ("a", "b"):
        await shelf.put(name)
    held = await shelf.begun("in flight", 1)
    await shelf.write(held)
    answers = [await shelf.answer()]
    killed_at: set[str] = set()
    while True:
        try:
            await reembedder(Reaper(killed_at).watched(shelf.services)).run(shelf.collection)
        except Killed:
            answers.append(await shelf.answer())
        else:
            break
        await shelf.let_holds_end()
    old, new = answers[0], await shelf.answer()
    switched = answers.index(new)
    assert answers == [old] * switched + [new] * (len(answers) - switched)
    assert len(new) == 6
    assert killed_at >= STEPS
    assert await shelf.mismatches() == []
    bound = await shelf.bound()
    assert (bound.current.fingerprint, bound.leaving) == (NEW.fingerprint, ())
    in_flight = await shelf.read("in flight")  # the janitor publishes the jobs of killed processes
    assert (in_flight.state, in_flight.outbox) == (DocumentState.QUEUED, "pending")


async def test_work_goes_on_after_the_last_checkpoint(shelf: Library) -> None:
    await shelf.put("long", 9)

    async def fail() -> None:
        raise Killed

    with pytest.raises(Killed):
        await reembedder(shelf.services, ActingEmbedder(fail, at=5)).run(shelf.collection)
    done = (await shelf.read("long")).next_pages_done
    assert 0 < done < 9
    again = ScriptedWords()
    await reembedder(shelf.services, again).run(shelf.collection)
    assert again.seen == list(range(done + 1, 10))


async def test_while_the_new_embedder_fails_the_old_one_serves(
    shelf: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    await shelf.put("a", 5)

    async def fail() -> None:
        raise DependencyUnavailable("embedder", "scripted")

    before = await shelf.answer()
    with pytest.raises(DependencyUnavailable, match="scripted"):
        await reembedder(shelf.services, ActingEmbedder(fail)).run(shelf.collection)
    assert await shelf.answer() == before
    await shelf.put("b")
    assert await shelf.mismatches() == []
    await reembedder(shelf.services).run(shelf.collection)
    assert await shelf.pages_found() == {shelf.id_of("a"): 5, shelf.id_of("b"): 3}


async def test_an_abort_leaves_the_old_as_it_was_and_its_number_is_never_used_again(
    shelf: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    document = await shelf.put("a", 7)
    before = await shelf.answer()

    async def fail() -> None:
        raise DependencyUnavailable("embedder", "scripted")

    with pytest.raises(DependencyUnavailable):
        await reembedder(shelf.services, ActingEmbedder(fail, at=4)).run(shelf.collection)
    with pytest.raises(Conflict, match="abort"):
        await reembedder(shelf.services, WordEmbedder(dim=24)).run(shelf.collection)
    bound = await shelf.abort()
    assert (bound.current.number, bound.next, bound.leaving) == (1, None, ())
    assert await shelf.answer() == before
    assert await shelf.blob_keys(document) == blobs_of(document, 1)
    assert await shelf.code_keys(document) == {codes_key(document.id, 1)}
    assert await shelf.services.vectors.count(index_of(shelf.collection, 2)) == 0
    assert await shelf.mismatches() == []
    bound = await reembedder(shelf.services, WordEmbedder(dim=24)).run(shelf.collection)
    assert bound.current.number == 3
    assert await shelf.mismatches() == []


async def test_an_embedder_of_pictures_gets_the_stored_ones_as_pixels(shelf: Library) -> None:
    await shelf.put("a", 5)
    await reembedder(shelf.services, PixelEmbedder()).run(shelf.collection)
    query = PixelEmbedder()._embed("4")
    [[(page_key, score)]] = rows_of(await shelf.services.vectors.search(index_of(shelf.collection, 2), query, 1))
    assert page_key == (await shelf.read("a")).page_key(4)
    assert score == pytest.approx(1.0, abs=1e-3)


async def test_an_audit_during_a_reembedding_checks_both_generations(shelf: Library) -> None:
    for name in ("a", "b", "c"):
        await shelf.put(name, 2)
    mismatches = []

    async def damage() -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not (moved := await shelf.moved(2)):
                await asyncio.sleep(0.01)
        mismatches.append(await shelf.mismatches())
        await shelf.services.vectors.delete_pages(index_of(shelf.collection, 2), moved[0].first_page_key, 1)
        mismatches.append(await shelf.mismatches())

    await reembedder(shelf.services, ActingEmbedder(damage, at=3)).run(shelf.collection)
    assert mismatches[0] == []
    assert [(found.store, found.what) for found in mismatches[1]] == [("milvus", "3 rows in place of 6")]
    assert await shelf.mismatches() == []  # the lost rows were found before the switch, and written again


async def test_a_worker_that_holds_a_document_at_the_switch_loses_it_to_one_with_the_new_embedder(
    shelf: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.pipelines.COLLECTION", shelf.collection)
    services, old = shelf.services, ScriptedEmbedder()
    first = await submitted(services, tmp_path / "first.pdf", pages=2)
    await pipeline(services, old).run(job(first))
    held = await submitted(services, tmp_path / "held.pdf", pages=5, word="held")
    old.hold_at = 4
    working = asyncio.create_task(pipeline(services, old).run(job(held)))
    async with asyncio.timeout(DEADLINE_S):
        await old.holding.wait()
        await reembedder(services).run(shelf.collection)
        old.go_on.set()
        await working
    queue = RememberingQueue(services.queue)
    old.seen.clear()
    await pipeline(services, old, queue=queue).run(job(held))
    assert (await read(services, held)).state is DocumentState.QUEUED
    assert (old.seen, queue.retried) == ([], [(job(held), services.settings.kafka.retry_delays_s[0])])
    await pipeline(services, NEW, worker="w2").run(job(held))
    ready = await read(services, held)
    assert (ready.state, ready.attempts, ready.generation) == (DocumentState.READY, 1, 2)
    hits = await shelf.searcher().search(shelf.collection, "held number", 10)
    assert {hit.page for hit in hits if hit.document_id == held.id} == {1, 2, 3, 4, 5}
    assert await shelf.mismatches() == []


async def test_embedders_that_a_collection_had_or_will_have_wait_and_others_are_refused(shelf: Library) -> None:
    await shelf.put("a")
    documents = shelf.services.documents
    await documents.begin_generation(shelf.collection, NEW.fingerprint, NEW.dim)
    with pytest.raises(EmbedderNotCurrent):
        await documents.bind_collection(shelf.collection, NEW.fingerprint, NEW.dim)
    with pytest.raises(EmbedderMismatch):
        await documents.bind_collection(shelf.collection, "another", NEW.dim)
    await documents.bind_collection(shelf.collection, OLD.fingerprint, OLD.dim)
    await reembedder(shelf.services).run(shelf.collection)
    with pytest.raises(EmbedderNotCurrent):
        await documents.bind_collection(shelf.collection, OLD.fingerprint, OLD.dim)
