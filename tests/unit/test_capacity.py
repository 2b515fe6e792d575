"""The capacity that documents of different lengths take."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.admitted import admitted
from tests.support.waiting import settled
from workers.consumer.admission import Admission
from workers.consumer.capacity import WeightedLimiter, suspended_capacity


class Documents:
    """Documents that hold capacity until they are released, by name."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.inside: list[str] = []

    async def come(self, name: str, pages: int, tenant: str = "a") -> None:
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, pages, tenant))
        await settled()

    async def go(self, name: str) -> None:
        self._leave[name].set()
        await settled()

    async def _stay(self, name: str, pages: int, tenant: str) -> None:
        async with admitted(self._admission, pages, tenant):
            self.inside.append(name)
            await self._leave[name].wait()
            self.inside.remove(name)


@pytest.mark.parametrize(("pages", "together"), [(0, 4), (2000, 4), (16, 4), (8, 8), (4, 16), (2, 16), (1, 16)])
async def test_more_short_documents_than_long_ones_are_admitted(pages: int, together: int) -> None:
    limiter = WeightedLimiter(4)
    admission = Admission(limiter)
    documents = Documents(admission)
    for number in range(20):
        await documents.come(str(number), pages)
    assert len(documents.inside) == together
    assert limiter.max_documents == 16


async def test_documents_are_admitted_in_order_and_a_long_one_is_not_starved() -> None:
    documents = Documents(Admission(WeightedLimiter(1)))
    await documents.come("short", 8)
    await documents.come("long", 100)
    await documents.come("late", 8)
    assert documents.inside == ["short"]
    await documents.go("short")
    assert documents.inside == ["long"]
    await documents.go("long")
    assert documents.inside == ["late"]


async def test_a_waiting_document_that_is_cancelled_blocks_no_other() -> None:
    documents = Documents(Admission(WeightedLimiter(1)))
    await documents.come("first", 8)
    await documents.come("gone", 100)
    await documents.come("next", 8)
    documents.tasks["gone"].cancel()
    await settled()
    assert documents.inside == ["first", "next"]


async def test_capacity_given_to_a_document_that_is_cancelled_at_that_moment_is_not_lost() -> None:
    documents = Documents(Admission(WeightedLimiter(1)))
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
    admission = Admission(WeightedLimiter(2))

    async def visit(pages: int) -> None:
        async with admitted(admission, pages):
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
    documents = Documents(admission)
    for number in range(9):
        await documents.come(str(number), 2)
    assert len(documents.inside) == 8, "no place is lost, and none given twice"
    for number in range(9):
        await documents.go(str(number))
    assert not admission._documents and not admission._running


class Windows:
    """A document of 16 pages. Each of its windows waits for other documents until `go`."""

    def __init__(self, admission: Admission, windows: int = 1, tenant: str = "a") -> None:
        self.resumed: list[int] = []
        self.end = asyncio.Event()
        self._go = [asyncio.Event() for _ in range(windows)]
        self._admission = admission
        self._tenant = tenant
        self.task = asyncio.create_task(self._run())

    async def go(self, window: int) -> None:
        self._go[window].set()
        await settled()

    async def _run(self) -> None:
        async with admitted(self._admission, 16, self._tenant):
            await asyncio.gather(*(self._wait(number) for number in range(len(self._go))))
            await self.end.wait()

    async def _wait(self, number: int) -> None:
        with suspended_capacity():
            await self._go[number].wait()
        self.resumed.append(number)


async def test_a_document_that_waits_for_others_lends_its_capacity_and_never_waits_to_have_it_again() -> None:
    admission = Admission(WeightedLimiter(1))
    waits = Windows(admission)
    documents = Documents(admission)
    await documents.come("first", 16)
    await documents.come("second", 16)
    assert documents.inside == ["first"], "the capacity is free while the document waits"
    await waits.go(0)
    assert waits.resumed == [0], "it has begun, and others may wait for it"
    await documents.go("first")
    assert not documents.inside, "a document that has begun comes before the second"
    waits.end.set()
    await settled()
    assert documents.inside == ["second"]
    await documents.go("second")


async def test_a_document_has_its_capacity_again_when_its_last_window_waits_no_more() -> None:
    admission = Admission(WeightedLimiter(1))
    waits = Windows(admission, windows=2)
    documents = Documents(admission)
    await settled()
    await waits.go(0)
    await documents.come("first", 16)
    assert documents.inside == ["first"], "the other window still waits"
    await waits.go(1)
    await documents.go("first")
    await documents.come("second", 16)
    assert not documents.inside
    waits.end.set()
    await settled()
    assert documents.inside == ["second"]


async def test_documents_that_have_begun_weigh_at_most_twice_the_capacity() -> None:
    limiter = WeightedLimiter(2)
    admission = Admission(limiter)
    waiting = [Windows(admission) for _ in range(6)]
    documents = Documents(admission)
    await documents.come("honest", 16)
    assert len(limiter._suspended) == 2 and len(limiter._not_suspended) == 2
    assert not documents.inside, "two more are suspended only when the first two wait no more"
    await waiting[0].go(0)
    waiting[0].end.set()
    await settled()
    assert len(limiter._suspended) == 2 and len(limiter._not_suspended) == 2, "the fifth has begun"
    for document in waiting[1:3]:
        document.task.cancel()
    await settled()
    assert documents.inside == ["honest"]
    for document in waiting[3:]:
        document.task.cancel()
    await settled()
    await documents.go("honest")
    assert limiter._free_pages == limiter._suspendable_pages == 32


async def test_a_document_that_is_cancelled_while_it_waits_leaves_all_capacity() -> None:
    limiter = WeightedLimiter(1)
    admission = Admission(limiter)
    waits = Windows(admission, windows=2)
    documents = Documents(admission)
    await documents.come("other", 16)
    await waits.go(0)
    waits.task.cancel()
    await settled()
    await documents.go("other")
    assert waits.task.cancelled() and limiter._free_pages == 16


async def test_one_long_document_of_tenants_without_running_ones_passes_those_that_wait() -> None:
    documents = Documents(Admission(WeightedLimiter(1)))
    for name, tenant in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c")):
        await documents.come(name, 100, tenant)
    assert documents.inside == ["a1", "b1"], "the reserve holds one"
    await documents.go("b1")
    assert documents.inside == ["a1", "c1"], "the second document of b would wait for its turn"
    await documents.go("a1")
    assert documents.inside == ["c1", "a2"]
    await documents.go("a2")
    assert documents.inside == ["c1", "b2"]
    await documents.go("c1")
    await documents.come("a3", 100, "a")
    assert documents.inside == ["b2", "a3"], "no document of a runs any more"


async def test_a_long_document_that_is_next_may_use_the_reserve_itself() -> None:
    documents = Documents(Admission(WeightedLimiter(1)))
    await documents.come("a1", 4, "a")
    await documents.come("b1", 100, "b")
    assert documents.inside == ["a1", "b1"]
    await documents.come("a2", 100, "a")
    assert documents.inside == ["a1", "b1"], "a document of a runs"


async def test_a_document_in_the_reserve_that_waits_for_others_lends_nothing() -> None:
    admission = Admission(WeightedLimiter(1))
    documents = Documents(admission)
    await documents.come("a1", 16)
    waits = Windows(admission, tenant="b")
    await documents.come("a2", 16)
    await documents.come("c1", 16, "c")
    assert documents.inside == ["a1"]
    await waits.go(0)
    assert waits.resumed == [0]
    await documents.go("a1")
    assert documents.inside == ["c1"]
    await documents.come("d1", 16, "d")
    assert documents.inside == ["c1"]
    waits.end.set()
    await settled()
    assert documents.inside == ["c1", "d1"]


def test_outside_of_a_job_nothing_is_suspended() -> None:
    with suspended_capacity():
        pass


_LONG_DOCUMENTS = 2
_EVENTS = st.lists(st.tuples(st.sampled_from(["come", "wait", "wake", "leave", "cancel"]), st.integers(0, 9)))


@given(_EVENTS)
def test_in_any_order_of_waits_and_cancellations_capacity_is_exact(events: list[tuple[str, int]]) -> None:
    asyncio.run(_any_order(events))


class Waiter:
    """A document of a random number of pages that begins and ends waits when the test says so."""

    def __init__(self, admission: Admission, pages: int) -> None:
        self.weight = min(max(pages, 4), 16) if pages else 16
        self.is_inside = False
        self.waits: list[asyncio.Task[None]] = []
        self._admission = admission
        self._begin = asyncio.Queue[None]()
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(pages))

    async def _run(self, pages: int) -> None:
        async with admitted(self._admission, pages):
            self.is_inside = True
            try:
                while not self._leave.is_set():
                    await self._begin.get()
                    self.waits.append(asyncio.create_task(self._wait()))
            finally:
                self.is_inside = False
                for wait in self.waits:
                    wait.cancel()
                if len(self.waits) % 2:  # a document may end before its tasks do
                    await asyncio.gather(*self.waits, return_exceptions=True)

    async def _wait(self) -> None:
        with suspended_capacity():
            await asyncio.Event().wait()

    def happen(self, event: str) -> None:
        if event == "wait":
            self._begin.put_nowait(None)
        elif event == "wake" and self.waits:
            self.waits.pop(0).cancel()
        elif event == "leave":
            self._leave.set()
            self._begin.put_nowait(None)
        elif event == "cancel":
            self.task.cancel()


async def _any_order(events: list[tuple[str, int]]) -> None:
    limiter = WeightedLimiter(_LONG_DOCUMENTS)
    admission = Admission(limiter)
    capacity = 16 * _LONG_DOCUMENTS
    documents: list[Waiter] = []
    for event, number in events:
        if event == "come":
            documents.append(Waiter(admission, 2 * number))
        elif documents:
            documents[number % len(documents)].happen(event)
        for _ in range(6):  # a document may be admitted, and begin all pages that were reported meanwhile
            await settled()
        inside = [one for one in documents if one.is_inside]
        suspended = [held.weight for held in limiter._suspended]
        assert sum(suspended) == capacity - limiter._suspendable_pages <= capacity
        active = sum(one.weight for one in inside) - sum(suspended)
        assert limiter._free_pages == capacity - active
        assert active + sum(suspended) <= 2 * capacity
        waiting = sum(any(not wait.done() for wait in one.waits) for one in inside)
        assert waiting == len(limiter._suspended) + len(limiter._not_suspended)
    for document in documents:
        document.task.cancel()
    await asyncio.gather(*(one.task for one in documents), return_exceptions=True)
    await settled()
    assert limiter._free_pages == limiter._suspendable_pages == capacity
    assert not limiter._suspended and not limiter._not_suspended
