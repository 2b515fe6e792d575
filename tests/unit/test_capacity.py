"""The capacity that documents of different lengths take."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from workers.consumer.capacity import WeightedLimiter


class Documents:
    """Documents that hold capacity until they are released, by name."""

    def __init__(self, limiter: WeightedLimiter) -> None:
        self._limiter = limiter
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.inside: list[str] = []

    async def come(self, name: str, pages: int) -> None:
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, pages))
        await settled()

    async def go(self, name: str) -> None:
        self._leave[name].set()
        await settled()

    async def _stay(self, name: str, pages: int) -> None:
        async with self._limiter.acquire(pages):
            self.inside.append(name)
            await self._leave[name].wait()
            self.inside.remove(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("pages", "together"), [(0, 4), (2000, 4), (16, 4), (8, 8), (4, 16), (2, 16), (1, 16)])
async def test_more_short_documents_than_long_ones_are_admitted(pages: int, together: int) -> None:
    limiter = WeightedLimiter(4)
    documents = Documents(limiter)
    for number in range(20):
        await documents.come(str(number), pages)
    assert len(documents.inside) == together
    assert limiter.max_documents == 16


async def test_documents_are_admitted_in_order_and_a_long_one_is_not_starved() -> None:
    documents = Documents(WeightedLimiter(1))
    await documents.come("short", 8)
    await documents.come("long", 100)
    await documents.come("late", 8)
    assert documents.inside == ["short"]
    await documents.go("short")
    assert documents.inside == ["long"]
    await documents.go("long")
    assert documents.inside == ["late"]


async def test_a_waiting_document_that_is_cancelled_blocks_no_other() -> None:
    documents = Documents(WeightedLimiter(1))
    await documents.come("first", 8)
    await documents.come("gone", 100)
    await documents.come("next", 8)
    documents.tasks["gone"].cancel()
    await settled()
    assert documents.inside == ["first", "next"]


async def test_capacity_given_to_a_document_that_is_cancelled_at_that_moment_is_not_lost() -> None:
    documents = Documents(WeightedLimiter(1))
    await documents.come("first", 100)
    await documents.come("gone", 100)
    await documents.come("next", 100)
    documents._leave["first"].set()
    while not documents.tasks["first"].done():
        await asyncio.sleep(0)
    documents.tasks["gone"].cancel()
    await settled()
    assert documents.inside == ["next"]


async def test_in_any_order_of_events_all_capacity_is_free_at_the_end() -> None:
    chance = random.Random(7)
    limiter = WeightedLimiter(2)

    async def visit(pages: int) -> None:
        async with limiter.acquire(pages):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

    tasks = []
    for _ in range(500):
        tasks.append(asyncio.create_task(visit(chance.choice([0, 1, 2, 5, 9, 16, 300]))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        await asyncio.sleep(0)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    documents = Documents(limiter)
    for number in range(9):
        await documents.come(str(number), 2)
    assert len(documents.inside) == 8, "no place is lost, and none given twice"
