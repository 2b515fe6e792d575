"""Time budgets: nested budgets, the share of each request, and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from ingestion.adapters.threads import Threads
from ingestion.concurrency import deadline
from ingestion.concurrency.deadline import budget, limit_s, remaining_s
from ingestion.errors import DependencyUnavailable
from ingestion.retrying import ATTEMPTS, BUDGET_S, retrying
from ingestion.server_cooldown import ServerCooldown


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    """As many tries as there are, without the pauses between them."""
    stamina.set_testing(True, attempts=ATTEMPTS)
    yield
    stamina.set_testing(False)


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadline, "time", clock)
    return clock


def test_each_request_gets_what_is_left_and_at_most_its_own_limit(clock: Clock) -> None:
    assert (remaining_s(), limit_s("s3", 20)) == (None, 20)
    with budget(30):
        assert limit_s("s3", 20) == 20
        clock.now_s += 25
        assert (remaining_s(), limit_s("s3", 20)) == (5, 5)
        clock.now_s += 5
        assert remaining_s() == 0
        with pytest.raises(DependencyUnavailable, match="s3 is unavailable: no time is left"):
            limit_s("s3", 20)
    assert remaining_s() is None


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=6))
def test_a_budget_within_a_budget_never_adds_time(budgets_s: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadline, "time", Clock())

        def nested(left: list[float], least_s: float) -> None:
            if left:
                with budget(left[0]):
                    assert remaining_s() == pytest.approx(min(least_s, left[0]))
                    nested(left[1:], min(least_s, left[0]))
                    assert remaining_s() == pytest.approx(min(least_s, left[0]))

        nested(budgets_s, float("inf"))


async def test_the_budget_travels_into_tasks_and_threads_and_not_to_others(clock: Clock) -> None:
    threads = Threads(1, stage="test")

    async def left_s() -> float | None:
        return remaining_s()

    with budget(10):
        assert await asyncio.create_task(left_s()) == 10
        assert await threads.read(remaining_s) == 10
        assert await threads.write(remaining_s) == 10
    assert await threads.read(remaining_s) is None


async def test_who_waits_for_a_thread_waits_no_longer_than_the_budget() -> None:
    threads, done = Threads(1, stage="rows", dependency="milvus"), asyncio.Event()
    loop = asyncio.get_running_loop()

    def busy() -> None:
        asyncio.run_coroutine_threadsafe(done.wait(), loop).result(30)

    holder = asyncio.create_task(threads.write(busy))
    await asyncio.sleep(0)
    for call in (threads.read, threads.write):
        with pytest.raises(DependencyUnavailable, match="milvus"), budget(0.1):
            await call(lambda: None)
    done.set()
    await holder
    assert await threads.write(lambda: 7) == 7, "the place was given back"


async def test_a_time_out_of_the_function_itself_is_raised_as_it_is() -> None:
    def fails() -> None:
        raise TimeoutError("its own")

    with budget(30), pytest.raises(TimeoutError, match="its own"):
        await Threads(1, stage="test").read(fails)


async def test_tries_share_one_budget(clock: Clock) -> None:
    left: list[Any] = []

    async def call() -> None:
        left.append(remaining_s())
        clock.now_s += 0.4 * BUDGET_S
        limit_s("s3", 20)
        raise DependencyUnavailable("s3", "down")

    with pytest.raises(DependencyUnavailable):
        await retrying(call)
    assert left == pytest.approx([BUDGET_S, 0.6 * BUDGET_S, 0.2 * BUDGET_S, 0.0])
    assert len(left) == ATTEMPTS


async def test_a_call_that_is_tried_again_is_not_tried_again_inside_too() -> None:
    tries = 0

    async def call() -> None:
        nonlocal tries
        tries += 1
        raise DependencyUnavailable("s3", "down")

    async def outer() -> None:
        await asyncio.create_task(retrying(call))

    with budget(30), pytest.raises(DependencyUnavailable):
        await retrying(outer)
    assert tries == ATTEMPTS


async def test_retries_within_a_callers_budget_get_no_more_than_that(clock: Clock) -> None:
    left: list[Any] = []

    async def call() -> None:
        left.append(remaining_s())
        raise DependencyUnavailable("s3", "down")

    for budget_s in (3, 2 * BUDGET_S):
        with budget(budget_s), pytest.raises(DependencyUnavailable):
            await retrying(call)
        assert set(left) == {budget_s}
        left.clear()


def refused(cooldown: ServerCooldown, clock: Clock, seconds: float) -> None:
    with pytest.raises(DependencyUnavailable), cooldown.request():
        clock.now_s += seconds
        raise DependencyUnavailable("kafka", "down")


def test_a_server_cools_down_ten_times_as_long_as_it_kept_its_caller_waiting() -> None:
    clock = Clock()
    cooldown = ServerCooldown(clock.monotonic)
    refused(cooldown, clock, 0.0)
    assert not cooldown.is_cooling_down, "one that refuses at once costs nothing"
    refused(cooldown, clock, 2.0)
    clock.now_s += 19.9
    assert cooldown.is_cooling_down
    clock.now_s += 0.2
    assert not cooldown.is_cooling_down
    with cooldown.request():
        assert cooldown.is_cooling_down, "for others, while one finds out"
    assert not cooldown.is_cooling_down
    refused(cooldown, clock, 10.0)
    clock.now_s += 30.1
    assert not cooldown.is_cooling_down, "30 s at most"


def test_a_caller_that_leaves_says_nothing_of_the_server() -> None:
    clock = Clock()
    cooldown = ServerCooldown(clock.monotonic)
    with pytest.raises(asyncio.CancelledError), cooldown.request():
        clock.now_s += 10
        raise asyncio.CancelledError
    assert not cooldown.is_cooling_down
