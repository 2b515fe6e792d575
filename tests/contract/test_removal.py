"""Late deletions: another caller has finished the deletion, and the same file was uploaded again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ingestion.bootstrap import Services
from ingestion.errors import LeaseHeld, LeaseLost
from ingestion.model import Document, DocumentState
from ingestion.ports import VectorStore
from tests.support.pipelines import (
    DEADLINE_S,
    ScriptedEmbedder,
    assert_stores_hold_exactly,
    claim_and_die,
    job,
    pipeline,
    read,
    submitted,
    submitted_again,
)
from workers.attempt.claims import Claims
from workers.attempt.store import PageStore
from workers.wiring import remover_of


class Interrupted:
    """An index that runs another operation before it deletes the first pages."""

    def __init__(self, vectors: VectorStore, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._vectors = vectors
        self._meanwhile = [meanwhile]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vectors, name)

    async def delete_pages(self, index: str, first_page_key: int, count: int) -> None:
        if self._meanwhile:
            await self._meanwhile.pop()()
        await self._vectors.delete_pages(index, first_page_key, count)


async def test_the_slower_of_two_deletes_leaves_the_next_upload_alone(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "twice.pdf"
    first = await submitted(services, path, pages=2)

    async def delete_and_upload() -> None:
        await remover_of(services).delete_document(first.id)
        second = await submitted_again(services, path)
        await pipeline(services, ScriptedEmbedder()).run(job(second))

    slow = replace(remover_of(services), vectors=cast(VectorStore, Interrupted(services.vectors, delete_and_upload)))
    async with asyncio.timeout(DEADLINE_S):
        await slow.delete_document(first.id)
    await assert_is_whole(services, first)


async def test_a_deletion_that_another_caller_finished_is_not_repeated(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "listed.pdf"
    first = await submitted(services, path, pages=2)
    listed = await services.documents.begin_delete(first.id)
    assert await remover_of(services).finish_delete(listed)
    assert await services.documents.get(first.id) is None
    second = await submitted_again(services, path)
    await pipeline(services, ScriptedEmbedder()).run(job(second))
    assert not await remover_of(services).finish_delete(listed)
    await assert_is_whole(services, first)


async def test_a_worker_that_deletes_its_late_writes_does_not_touch_the_next_upload(
    services: Services, tmp_path: Path
) -> None:
    path = tmp_path / "late.pdf"
    first = await submitted(services, path, pages=2)
    claimed = await services.documents.claim(first.id, "late", lease_ms=60_000)
    await remover_of(services).delete_document(first.id)

    async def upload_again() -> None:
        second = await submitted_again(services, path)
        await pipeline(services, ScriptedEmbedder()).run(job(second))

    vectors = cast(VectorStore, Interrupted(services.vectors, upload_again))
    store = PageStore(services.documents, services.blobs, vectors)
    await Claims(services.documents, store, "late", 60.0).after_loss(claimed, LeaseLost("deleted"))
    await assert_is_whole(services, first)


async def test_a_worker_that_may_have_lost_its_lease_removes_nothing(services: Services, tmp_path: Path) -> None:
    document = await submitted(services, tmp_path / "two.pdf", pages=2)
    await claim_and_die(services, document)
    async with asyncio.timeout(DEADLINE_S):
        while (await read(services, document)).state is not DocumentState.READY:
            with suppress(LeaseHeld):
                await pipeline(services, ScriptedEmbedder()).run(job(document))
    ready = await read(services, document)

    def stood_still() -> None:
        raise LeaseLost("it stood still")

    store = PageStore(services.documents, services.blobs, services.vectors)
    with pytest.raises(LeaseLost):
        await store.prepare(replace(ready, pages_done=0), ScriptedEmbedder(), stood_still)
    await assert_stores_hold_exactly(services, ready)


async def assert_is_whole(services: Services, first: Document) -> None:
    second = await read(services, first)
    assert second.state is DocumentState.READY
    assert second.first_page_key >= first.first_page_key + first.pages
    await assert_stores_hold_exactly(services, second)
