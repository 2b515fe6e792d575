"""Bytes that tasks may hold at a time."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.byte_budget import ByteBudget


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def holding(budget: ByteBudget, size: int, until: asyncio.Event, order: list[int]) -> None:
    async with budget.reserve(size):
        order.append(size)
        await until.wait()


async def test_first_come_first_served_even_where_a_smaller_one_would_fit() -> None:
    budget, order = ByteBudget(10), list[int]()
    ends = [asyncio.Event() for _ in range(3)]
    tasks = [asyncio.create_task(holding(budget, size, end, order)) for size, end in zip((6, 8, 1), ends, strict=True)]
    await turns()
    assert order == [6]
    ends[0].set()
    await turns()
    assert order == [6, 8, 1]
    for end in ends:
        end.set()
    await asyncio.gather(*tasks)
    assert budget.reserved_bytes == 0


async def test_a_reservation_above_the_limit_is_held_alone() -> None:
    budget, order, end = ByteBudget(10), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(holding(budget, size, end, order)) for size in (99, 1)]
    await turns()
    assert order == [99]
    end.set()
    await asyncio.gather(*tasks)
    assert order == [99, 1]


async def test_a_reservation_that_shrinks_frees_bytes() -> None:
    budget, order, end = ByteBudget(10), list[int](), asyncio.Event()
    async with budget.reserve(10) as reserved:
        task = asyncio.create_task(holding(budget, 5, end, order))
        await turns()
        assert order == []
        reserved.resize(5)
        await turns()
        assert order == [5]
    end.set()
    await task
    assert budget.reserved_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=12))
async def test_nothing_is_lost_when_tasks_are_cancelled_at_any_moment(wanted: list[tuple[int, bool]]) -> None:
    budget, order, end = ByteBudget(10), list[int](), asyncio.Event()
    tasks = []
    for size, is_cancelled in wanted:
        tasks.append(asyncio.create_task(holding(budget, size, end, order)))
        await asyncio.sleep(0)
        if is_cancelled:
            tasks[len(order) // 2].cancel()
        assert budget.reserved_bytes <= 10 or budget.reserved_bytes in (11, 12), "more than all of it is one task's"
    end.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert budget.reserved_bytes == 0
