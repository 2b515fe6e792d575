"""`FairLimiter` is fair between callers and loses no slot."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ingestion.concurrency.fair_limiter import FairLimiter
from tests.support.waiting import settled


class Desk:
    """Callers that keep their turn until they are let go; `served` is the order in which they got it."""

    def __init__(self, slots: int) -> None:
        self.limiter = FairLimiter(slots)
        self.served: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, caller: str, *requests: str) -> None:
        for request in requests:
            self._leave[request] = asyncio.Event()
            self.tasks[request] = asyncio.create_task(self._stay(caller, request))
        await settled()

    async def go(self, request: str) -> None:
        self._leave[request].set()
        await settled()

    async def _stay(self, caller: str, request: str) -> None:
        async with self.limiter.slot(caller):
            self.served.append(request)
            await self._leave[request].wait()


async def test_a_caller_with_many_requests_keeps_no_other_caller_waiting_for_all_of_them() -> None:
    desk = Desk(1)
    await desk.come("a", "a1", "a2", "a3", "a4")
    await desk.come("b", "b1", "b2")
    await desk.come("c", "c1")
    for request in ("a1", "a2", "b1", "c1", "a3", "b2"):
        await desk.go(request)
    assert desk.served == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_no_more_turns_than_slots_are_given() -> None:
    desk = Desk(2)
    await desk.come("a", "a1", "a2", "a3")
    assert desk.served == ["a1", "a2"]
    await desk.go("a2")
    assert desk.served == ["a1", "a2", "a3"]


async def test_a_request_that_is_cancelled_gives_its_turn_to_the_next() -> None:
    desk = Desk(1)
    await desk.come("a", "a1", "a2")
    await desk.come("b", "b1")
    desk.tasks["a2"].cancel()
    await settled()
    await desk.go("a1")
    assert desk.served == ["a1", "b1"]
    desk.tasks["b1"].cancel()
    await desk.come("c", "c1")
    assert desk.served == ["a1", "b1", "c1"]


async def test_a_request_that_is_cancelled_when_its_turn_comes_gives_it_back() -> None:
    desk = Desk(1)
    await desk.come("a", "a1", "a2")
    desk._leave["a1"].set()
    desk.tasks["a1"].add_done_callback(lambda _: desk.tasks["a2"].cancel())
    await settled()
    with suppress(asyncio.CancelledError):
        await desk.tasks["a2"]
    await desk.come("b", "b1")
    assert desk.served[-1] == "b1"
