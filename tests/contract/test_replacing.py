"""A new version of a file replaces the former one: searches find one of the two at any time, also after crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from ingestion.model import StaleKind, document_prefix
from tests.contract.test_search_cache import HaltingStore, Library, finish_in_steps, search_in_steps
from tests.contract.test_search_cache import halting as halting
from tests.contract.test_search_cache import library as library
from tests.support.interleaving import Gate, orders, run_in_order
from workers.janitor import janitor_of


@asynccontextmanager
async def polled(library: Library, *versions: str) -> AsyncIterator[list[set[str]]]:
    """A searcher that looks all the while. Each of its answers has one of the versions."""
    answers: list[set[str]] = []

    async def poll() -> None:
        while True:
            answers.append(await library.found() & set(versions))

    polling = asyncio.create_task(poll())
    try:
        yield answers
    finally:
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling
    assert answers
    assert {len(found) for found in answers} == {1}


async def cut_off(store: HaltingStore, library: Library, new: str, *, is_before: bool) -> None:
    """A worker dies while it makes the new version ready: before the document is ready, or right after."""
    store.before, store.after = before, after = Gate(), Gate()
    task = asyncio.create_task(store.finish(await library.written(new, "k")))
    await before.reached_by(task)
    if not is_before:
        before.open()
        await after.reached_by(task)
    task.cancel()
    await asyncio.wait([task])
    store.before = store.after = None


async def test_no_interleaving_of_a_search_with_a_switch_finds_both_versions_or_none(
    library: Library, halting: HaltingStore
) -> None:
    for number, order in enumerate(orders(3, 3)):
        key, old, new = f"k{number}", f"o{number}", f"n{number}"
        versions = {old, new}
        await library.add(old, key)
        written = await library.written(new, key)
        answers: list[set[str]] = []

        async def check(versions: set[str] = versions) -> None:
            assert len(await library.found() & versions) == 1

        search = search_in_steps(library, answers)
        await run_in_order(order, search, finish_in_steps(library, halting, written), check)
        assert [len(found & versions) for found in answers] == [1]
        assert await library.found() & versions == {new}


async def test_a_worker_that_dies_before_the_switch_leaves_the_former_version(
    library: Library, halting: HaltingStore
) -> None:
    await library.add("old", "k")
    async with polled(library, "old", "new"):
        await cut_off(halting, library, "new", is_before=True)
        assert "old" in await library.found()
        await library.services.documents.settle_changes()
        document = await library.services.documents.get("new")
        assert document is not None
        await library.services.documents.finish(document)
        assert "new" in await library.found()


async def test_a_former_version_is_removed_from_all_stores_also_after_a_crash_at_the_switch(
    library: Library, halting: HaltingStore
) -> None:
    services = library.services
    old = await library.add("old", "k")
    janitor = replace(janitor_of(services), grace_s=0, replaced_after_s=0)
    async with polled(library, "old", "new"):
        await cut_off(halting, library, "new", is_before=False)
        assert "new" in await library.found()
        assert await services.blobs.list_keys(document_prefix("old"))
        # The first round marks what the worker could not, the second one removes it.
        done = [await janitor.round() for _ in range(2)]
        assert sum(one.repaired[StaleKind.REPLACED] for one in done) == 1
        assert await services.documents.get("old") is None
        assert await services.blobs.list_keys(document_prefix("old")) == []
        assert await services.vectors.count_rows(library.collection, old.first_page_key, old.pages) == 0
        assert await services.documents.pages_by_key(old.page_keys) == {}
        assert "new" in await library.found()
