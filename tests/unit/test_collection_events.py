"""The stream of a collection's events, over stores in memory."""

from __future__ import annotations

import json
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from sse_starlette import ServerSentEvent

from ingestion.api import events
from ingestion.errors import DependencyUnavailable
from tests.memory import MemoryDocumentStore, MemoryProgress
from tests.support.documents import S, in_state

MOST = 3


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryDocumentStore:
    monkeypatch.setattr(events, "MOST_DOCUMENTS", MOST)
    monkeypatch.setattr(events, "POLL_INTERVAL_S", 0)
    return MemoryDocumentStore()


def services_of(store: MemoryDocumentStore) -> Any:
    settings = SimpleNamespace(api=SimpleNamespace(store_budget_s=5.0))
    return SimpleNamespace(documents=store, progress=MemoryProgress(), settings=settings)


async def always() -> bool:
    return True


async def received(store: MemoryDocumentStore, count: int, position_ms: int | None = None) -> list[ServerSentEvent]:
    """The first `count` events of a stream that breaks off then."""
    found = list[ServerSentEvent]()
    async with aclosing(events._collection_events("c", services_of(store), always, position_ms)) as stream:  # type: ignore[type-var]
        async for event in stream:
            found.append(event)
            if len(found) == count:
                break
    return found


def ids(found: list[ServerSentEvent]) -> list[str]:
    return [json.loads(event.data)["document_id"] for event in found]


async def test_all_unfinished_documents_are_shown_where_they_do_not_fit_into_a_look(
    store: MemoryDocumentStore,
) -> None:
    names = [f"d{number}" for number in range(3 * MOST + 1)]
    for name in names:
        await in_state(store, S.QUEUED, name)
    found = await received(store, len(names))
    assert ids(found) == names
    assert [event.id for event in found[:-1]] == [None] * (len(names) - 1)
    assert found[-1].id == str(await store.last_change_ms("c"))


async def test_a_client_that_breaks_off_within_a_look_gets_the_rest(store: MemoryDocumentStore) -> None:
    names = [f"d{number}" for number in range(MOST)]
    for name in names:
        await in_state(store, S.READY, name)
        store.clock.advance(60)
    [first] = await received(store, 1, 0)
    assert first.id is None
    whole = await received(store, MOST, 0)
    assert ids(whole) == names
    assert whole[-1].id == str(await store.last_change_ms("c"))


async def test_more_changes_of_one_moment_than_fit_into_a_look_are_shown(store: MemoryDocumentStore) -> None:
    names = {f"d{number}" for number in range(2 * MOST + 1)}
    for name in names:
        await in_state(store, S.READY, name)
    store.clock.advance(60)
    await in_state(store, S.READY, "later")
    assert set(ids(await received(store, len(names) + 1, 0))) == {*names, "later"}


async def test_a_look_that_fails_loses_no_change(store: MemoryDocumentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_state(store, S.QUEUED, "waits")
    look = events._CollectionLook("c", services_of(store), None)
    await look.views()
    store.clock.advance(60)
    await in_state(store, S.READY, "changed")
    store.clock.advance(60)
    await in_state(store, S.READY, "newest")
    with monkeypatch.context() as patch:

        async def known(_: object) -> Any:
            raise DependencyUnavailable("mongodb", "down")

        patch.setattr(store, "known", known)
        with pytest.raises(DependencyUnavailable):
            await look.views()
    assert {"changed", "newest"} <= {view.document_id for view in await look.views()}


async def test_a_look_reads_few_documents_again_and_all_in_turn(
    store: MemoryDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"d{number}" for number in range(2 * MOST)}
    for name in names:
        await in_state(store, S.QUEUED, name)
    look = events._CollectionLook("c", services_of(store), None)
    for _ in range(3):
        await look.views()
    asked = list[list[str]]()
    known = store.known

    async def counted(document_ids: list[str]) -> Any:
        asked.append(list(document_ids))
        return await known(document_ids)

    async def unchanged(*_: object) -> list[Any]:
        return []

    monkeypatch.setattr(store, "known", counted)
    monkeypatch.setattr(store, "changed_since", unchanged)
    for _ in range(2):
        await look.views()
    assert [len(one) for one in asked] == [MOST, MOST]
    assert {*asked[0], *asked[1]} == names
