"""Concurrent calls share a request, and each call has its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.concurrency.deadline import budget, remaining_s
from ingestion.concurrency.request_batching import MAX_BATCH, RequestBatcher
from ingestion.errors import BadRequest, DependencyUnavailable, PermanentError


class Server:
    """Doubles numbers, while it may. `calls` are the batches."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.budgets_s: list[float | None] = []
        self.at_once = 0
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.failure: Exception | None = None

    async def double(self, items: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(items))
        self.budgets_s.append(remaining_s())
        self.at_once += 1
        assert self.at_once == 1, "one call at a time"
        await self.may_go.wait()
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        if len(items) > 1 and any(item < 0 for item in items):
            raise BadRequest("a negative number spoils the whole call")
        return [BadRequest(str(item)) if item < 0 else 2 * item for item in items]


async def test_calls_made_during_a_request_share_the_next_request() -> None:
    server = Server()
    server.may_go.clear()
    batches: RequestBatcher[int, int] = RequestBatcher(server.double, dependency="server")
    first = asyncio.create_task(batches.call(0))
    while not server.calls:
        await asyncio.sleep(0)
    others = [asyncio.create_task(batches.call(number)) for number in range(1, MAX_BATCH + 11)]
    await asyncio.sleep(0)
    server.may_go.set()
    assert [await first, *[await one for one in others]] == [2 * number for number in range(MAX_BATCH + 11)]
    assert [len(call) for call in server.calls] == [1, MAX_BATCH, 10]


async def test_a_call_alone_is_made_at_once() -> None:
    server = Server()
    batches: RequestBatcher[int, int] = RequestBatcher(server.double, dependency="server")
    assert [await batches.call(number) for number in range(3)] == [0, 2, 4]
    assert server.calls == [[0], [1], [2]]


async def test_an_item_at_fault_does_not_cost_the_others() -> None:
    server = Server()
    batches: RequestBatcher[int, int] = RequestBatcher(server.double, dependency="server")
    results = await asyncio.gather(*(batches.call(number) for number in (1, -1, 2, 3)), return_exceptions=True)
    assert [result for result in results if isinstance(result, int)] == [2, 4, 6]
    assert isinstance(results[1], PermanentError)


async def test_a_server_that_is_down_is_an_error_of_all_and_the_next_call_is_made() -> None:
    server = Server()
    server.failure = DependencyUnavailable("a server", "down")
    batches: RequestBatcher[int, int] = RequestBatcher(server.double, dependency="server")
    results = await asyncio.gather(*(batches.call(number) for number in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [DependencyUnavailable] * 5
    assert len(server.calls) == 1, "it is not asked for each of them again"
    server.failure = None
    assert await batches.call(7) == 14


async def test_a_caller_that_gives_up_costs_the_others_nothing() -> None:
    server = Server()
    server.may_go.clear()
    batches: RequestBatcher[int, int] = RequestBatcher(server.double, dependency="server")
    under_way = [asyncio.create_task(batches.call(number)) for number in (1, 2)]
    while not server.calls:
        await asyncio.sleep(0)
    waiting = [asyncio.create_task(batches.call(number)) for number in (3, 4)]
    await asyncio.sleep(0)
    under_way[0].cancel()
    waiting[0].cancel()
    await asyncio.sleep(0)
    server.may_go.set()
    assert (await under_way[1], await waiting[1]) == (4, 8)
    assert server.calls == [[1, 2], [4]]
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]


async def test_the_budget_of_a_caller_is_not_that_of_the_others() -> None:
    server = Server()
    server.may_go.clear()
    batches: RequestBatcher[int, int] = RequestBatcher(server.double, dependency="server")

    async def hurried() -> int:
        with budget(0.1):
            return await batches.call(1)

    first = asyncio.create_task(hurried())
    while not server.calls:
        await asyncio.sleep(0)
    patient = asyncio.create_task(batches.call(2))
    with pytest.raises(DependencyUnavailable, match="in time"):
        await first
    server.may_go.set()
    assert await patient == 4
    assert server.budgets_s == [None, None]


@given(st.lists(st.integers(-3, 50), max_size=40))
def test_each_caller_has_the_result_of_its_own_item(items: list[int]) -> None:
    async def ask() -> list[int | BaseException]:
        batches: RequestBatcher[int, int] = RequestBatcher(Server().double, dependency="server")
        return await asyncio.gather(*(batches.call(item) for item in items), return_exceptions=True)

    for item, result in zip(items, asyncio.run(ask()), strict=True):
        assert result == 2 * item if item >= 0 else str(result) == str(item)
