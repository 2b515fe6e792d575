"""`prefetch`, `map_ordered` and `gather_or_cancel`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from ingestion.concurrency.tasks import gather_or_cancel, map_ordered, prefetch


async def test_items_come_in_order_and_the_generator_runs_ahead() -> None:
    made: list[int] = []

    async def numbers() -> AsyncGenerator[int, None]:
        for number in range(5):
            made.append(number)
            yield number

    seen = []
    async with prefetch(numbers()) as items:
        async for item in items:
            await asyncio.sleep(0)
            assert len(made) <= item + 4, "it runs ahead, but not without bound"
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]


async def test_an_error_comes_after_the_items_before_it() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise RuntimeError("broken")

    seen = []
    with pytest.raises(RuntimeError, match="broken"):
        async with prefetch(failing()) as items:
            async for item in items:
                seen += [item]
    assert seen == [1]


async def test_leaving_early_stops_the_generator() -> None:
    stopped = asyncio.Event()

    async def endless() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 0
        finally:
            stopped.set()

    with pytest.raises(KeyError):
        async with prefetch(endless()) as items:
            async for _ in items:
                raise KeyError
    assert stopped.is_set()
    assert len(asyncio.all_tasks()) == 1


async def test_side_by_side_raises_the_first_error_bare_and_cancels_the_rest() -> None:
    cancelled = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def broken() -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await gather_or_cancel(slow(), broken())
    assert cancelled.is_set()


async def test_side_by_side_keeps_the_order() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await gather_or_cancel(after(3), after(1), after(2)) == [3, 1, 2]


async def counted(count: int, error: Exception | None = None) -> AsyncGenerator[int, None]:
    for number in range(count):
        yield number
    if error is not None:
        raise error


async def test_calls_overlap_up_to_the_width_and_results_keep_their_order() -> None:
    under_way, most = 0, 0

    async def slow_at_first(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(10 - number):
            await asyncio.sleep(0)
        under_way -= 1
        return number * number

    assert [one async for one in map_ordered(slow_at_first, counted(8), width=3)] == [n * n for n in range(8)]
    assert most == 3


@pytest.mark.parametrize("where", ["call", "items"])
async def test_an_error_of_a_call_or_of_the_items_comes_after_the_results_before_it(where: str) -> None:
    async def same(number: int) -> int:
        await asyncio.sleep(0)
        if where == "call" and number == 4:
            raise RuntimeError("broken")
        return number

    items = counted(9) if where == "call" else counted(4, RuntimeError("broken"))
    seen = []
    with pytest.raises(RuntimeError, match="broken"):
        async for one in map_ordered(same, items, width=3):
            seen += [one]
    assert seen == [0, 1, 2, 3]


async def test_closing_early_cancels_the_calls_that_are_under_way() -> None:
    cancelled: list[int] = []

    async def endless(number: int) -> int:
        if number == 0:
            return number
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async with aclosing(map_ordered(endless, counted(9), width=3)) as results:
        assert await anext(results) == 0
        await asyncio.sleep(0)
    assert cancelled == [1, 2]


async def test_a_result_does_not_wait_for_the_next_item() -> None:
    more = asyncio.Event()

    async def one_and_later_another() -> AsyncGenerator[int, None]:
        yield 1
        await more.wait()
        yield 2

    async def same(number: int) -> int:
        return number

    seen = []
    async with asyncio.timeout(5), aclosing(map_ordered(same, one_and_later_another(), width=3)) as results:
        async for one in results:
            seen.append(one)
            more.set()
    assert seen == [1, 2]


async def test_a_generator_that_a_library_cancels_does_not_leave_its_consumer_waiting() -> None:
    async def cancelled() -> AsyncGenerator[int, None]:
        yield 1
        raise asyncio.CancelledError

    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="cancelled from within"):
            async with prefetch(cancelled()) as items:
                async for _ in items:
                    pass
