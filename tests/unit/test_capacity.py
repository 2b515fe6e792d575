"""Who gets a place beside whom."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from workers.consumer.capacity import WeightedLimiter


class Guests:
    """Documents that have a place until they are let go, by name."""

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
async def test_the_shorter_documents_are_the_more_are_worked_on_together(pages: int, together: int) -> None:
    limiter = WeightedLimiter(4)
    guests = Guests(limiter)
    for number in range(20):
        await guests.come(str(number), pages)
    assert len(guests.inside) == together
    assert limiter.max_documents == 16


async def test_who_comes_first_goes_first_and_a_long_document_is_not_passed_by() -> None:
    guests = Guests(WeightedLimiter(1))
    await guests.come("short", 8)
    await guests.come("long", 100)
    await guests.come("late", 8)
    assert guests.inside == ["short"]
    await guests.go("short")
    assert guests.inside == ["long"]
    await guests.go("long")
    assert guests.inside == ["late"]


async def test_who_leaves_while_waiting_holds_nobody_up() -> None:
    guests = Guests(WeightedLimiter(1))
    await guests.come("first", 8)
    await guests.come("gone", 100)
    await guests.come("next", 8)
    guests.tasks["gone"].cancel()
    await settled()
    assert guests.inside == ["first", "next"]


async def test_a_place_given_to_somebody_who_leaves_at_that_moment_is_not_lost() -> None:
    guests = Guests(WeightedLimiter(1))
    await guests.come("first", 100)
    await guests.come("gone", 100)
    await guests.come("next", 100)
    guests._leave["first"].set()
    while not guests.tasks["first"].done():
        await asyncio.sleep(0)
    guests.tasks["gone"].cancel()
    await settled()
    assert guests.inside == ["next"]


async def test_however_they_come_and_go_all_places_are_free_in_the_end() -> None:
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
    guests = Guests(limiter)
    for number in range(9):
        await guests.come(str(number), 2)
    assert len(guests.inside) == 8, "no place is lost, and none given twice"
