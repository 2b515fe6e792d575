"""The capacity that documents of different lengths take."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from workers.consumer.capacity import WeightedLimiter, suspended_capacity


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


class Waits:
    """A job that suspends its capacity until `resume`, and then keeps it until `end`."""

    def __init__(self, limiter: WeightedLimiter, tasks: int = 1) -> None:
        self.resume = [asyncio.Event() for _ in range(tasks)]
        self.resumed: list[int] = []
        self.end = asyncio.Event()
        self._limiter = limiter
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._limiter.acquire(16):
            await asyncio.gather(*(self._wait(number) for number in range(len(self.resume))))
            await self.end.wait()

    async def _wait(self, number: int) -> None:
        async with suspended_capacity():
            await self.resume[number].wait()
        self.resumed.append(number)


async def test_a_job_that_waits_elsewhere_gives_its_capacity_to_others_and_has_it_back_before_new_jobs() -> None:
    limiter = WeightedLimiter(1)
    job = Waits(limiter)
    documents = Documents(limiter)
    await documents.come("first", 16)
    await documents.come("second", 16)
    assert documents.inside == ["first"], "the capacity is free while the job waits"
    job.resume[0].set()
    await settled()
    assert not job.resumed, "the capacity is taken"
    await documents.go("first")
    assert job.resumed == [0] and not documents.inside, "the job that has begun comes before the second"
    job.end.set()
    await settled()
    assert documents.inside == ["second"]
    await documents.go("second")


async def test_tasks_of_one_job_take_its_capacity_back_once() -> None:
    limiter = WeightedLimiter(1)
    job = Waits(limiter, tasks=2)
    await settled()
    for event in job.resume:
        event.set()
    await settled()
    assert job.resumed == [0, 1]
    job.end.set()
    await job.task
    assert limiter._free_pages == 16


@pytest.mark.parametrize("is_resumed", [False, True])
async def test_a_job_that_is_cancelled_while_it_waits_leaves_all_capacity(is_resumed: bool) -> None:
    limiter = WeightedLimiter(1)
    job = Waits(limiter)
    documents = Documents(limiter)
    await documents.come("other", 16)
    if is_resumed:
        job.resume[0].set()
        await settled()
    job.task.cancel()
    await settled()
    await documents.go("other")
    assert job.task.cancelled() and limiter._free_pages == 16


async def test_outside_of_a_job_nothing_is_suspended() -> None:
    async with suspended_capacity():
        pass
