"""Calls that wait for their turn share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ingestion.concurrency.shared_calls import SharedCalls


class Server:
    """Doubles numbers once it is `open`. `asked` are the questions of each call. `error` is for positive ones."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.open = asyncio.Event()
        self.error: BaseException | None = None

    async def run(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        await self.open.wait()
        if self.error is not None and numbers[0] > 0:
            raise self.error
        return [2 * number for number in numbers]


@pytest.fixture
async def server() -> Server:
    return Server()


def fits(together: Sequence[int], number: int) -> bool:
    return (number < 0) == (together[0] < 0) and len(together) < 3


def calls_of(server: Server, at_once: int = 1) -> SharedCalls[int, int]:
    return SharedCalls(server.run, at_once=at_once, fits=fits)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_questions_that_fit_share_the_next_call_in_the_order_of_their_arrival(server: Server) -> None:
    answers = calls_of(server).submit([1, 2, -3, 4, 5, -6, 7])
    server.open.set()
    assert await asyncio.gather(*answers) == [2, 4, -6, 8, 10, -12, 14]
    assert server.asked == [[1, 2, 4], [-3, -6], [5, 7]]


async def test_no_more_calls_run_than_are_allowed(server: Server) -> None:
    answers = calls_of(server, at_once=2).submit([1, -2, 3, 4, 5, 6])
    await turns()
    assert server.asked == [[1, 3, 4], [-2]]
    server.open.set()
    await asyncio.gather(*answers)
    assert server.asked[2:] == [[5, 6]]


async def test_a_question_whose_caller_has_left_is_not_asked(server: Server) -> None:
    calls = calls_of(server)
    first, second, third = calls.submit([1]) + calls.submit([2]) + calls.submit([3])
    second.cancel()
    await turns()
    first.cancel()
    server.open.set()
    assert await third == 6
    assert server.asked == [[1], [3]]


async def test_an_error_reaches_all_callers_of_the_call_and_no_others(server: Server) -> None:
    calls = calls_of(server)
    answers = calls.submit([1, 2, -3])
    server.error = ValueError("no positive numbers")
    server.open.set()
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert [str(one) for one in found] == ["no positive numbers", "no positive numbers", "-6"]
    assert await asyncio.gather(*calls.submit([-4])) == [-8]


async def test_a_call_that_returns_too_few_answers_is_an_error_of_each_caller() -> None:
    async def run(numbers: Sequence[int]) -> list[int]:
        return [0 for _ in numbers[1:]]

    answers = SharedCalls(run, at_once=1, fits=fits).submit([1, 2])
    async with asyncio.timeout(5):
        found = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(error) for error in found] == [ValueError, ValueError]
