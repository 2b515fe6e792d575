"""Breakers: what opens them, which jobs wait, what closes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ingestion.errors import DependencyUnavailable
from workers.runtime.breaker import Breakers

DEADLINE_S = 10.0


class Server:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = True
        self.pings = 0

    async def ping(self) -> None:
        self.pings += 1
        if not self.is_up:
            raise self.error()

    def error(self) -> DependencyUnavailable:
        return DependencyUnavailable(self.name, "no answer")


@pytest.fixture
def milvus() -> Server:
    return Server("milvus")


@pytest.fixture
def redis() -> Server:
    return Server("redis")


@pytest.fixture
async def breakers(milvus: Server, redis: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Breakers]:
    monkeypatch.setattr("workers.runtime.breaker._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("workers.runtime.breaker._WATCH_EVERY_S", 0.02)
    breakers = Breakers({"milvus": milvus.ping, "redis": redis.ping}, optional={"redis"})
    yield breakers
    await breakers.stop()


async def test_jobs_wait_while_a_server_is_down_and_not_after(breakers: Breakers, milvus: Server) -> None:
    milvus.is_up = False
    breakers.trip(milvus.error())
    waiting = [asyncio.create_task(breakers.until_closed()) for _ in range(3)]
    async with asyncio.timeout(DEADLINE_S):
        while milvus.pings < 3:
            await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        assert [outage.dependency for outage in breakers.outages] == ["milvus"]
        milvus.is_up = True
        await asyncio.gather(*waiting)
    assert breakers.outages == []


async def test_an_outage_keeps_the_time_at_which_it_began(breakers: Breakers, milvus: Server) -> None:
    milvus.is_up = False
    breakers.trip(milvus.error())
    [first] = breakers.outages
    breakers.trip(DependencyUnavailable("milvus", "another answer"))
    assert breakers.outages == [first]


async def test_an_optional_server_is_reported_and_not_waited_for(breakers: Breakers, redis: Server) -> None:
    redis.is_up = False
    breakers.trip(redis.error())
    async with asyncio.timeout(DEADLINE_S):
        await breakers.until_closed()
    assert not breakers.is_blocking
    assert [outage.dependency for outage in breakers.outages] == ["redis"]


async def test_the_pauses_grow_while_a_server_answers_pings_and_refuses_work(
    breakers: Breakers, milvus: Server
) -> None:
    pauses_s = []
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(4):
            began = asyncio.get_running_loop().time()
            breakers.trip(milvus.error())
            await breakers.until_closed()
            pauses_s.append(asyncio.get_running_loop().time() - began)
    assert pauses_s[3] >= 8 * 0.02


async def test_a_server_without_a_ping_is_tried_again_after_the_pause(breakers: Breakers) -> None:
    breakers.trip(DependencyUnavailable("embedder", "no answer"))
    assert breakers.is_blocking
    async with asyncio.timeout(DEADLINE_S):
        await breakers.until_closed()


async def test_a_halt_is_for_good(breakers: Breakers, milvus: Server) -> None:
    breakers.halt("10 documents in a row have failed")
    milvus.is_up = False
    breakers.trip(milvus.error())
    milvus.is_up = True
    async with asyncio.timeout(DEADLINE_S):
        while len(breakers.outages) > 1:
            await asyncio.sleep(0.01)
    assert breakers.is_blocking
    assert breakers.outages[0].cause == "10 documents in a row have failed"


async def test_an_idle_worker_notices_an_outage_and_a_busy_one_leaves_that_to_its_jobs(
    breakers: Breakers, milvus: Server
) -> None:
    idle = False
    watching = asyncio.create_task(breakers.watch(lambda: idle))
    milvus.is_up = False
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.sleep(0.2)
        assert milvus.pings == 0
        idle = True
        while not breakers.is_blocking:
            await asyncio.sleep(0.01)
        milvus.is_up = True
        await breakers.until_closed()
    watching.cancel()


async def test_an_outage_is_over_when_the_server_works_not_when_it_answers(
    milvus: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runtime.breaker._FIRST_PAUSE_S", 0.02)
    work = Server("milvus")
    work.is_up = False
    breakers = Breakers({"milvus": milvus.ping}, proofs={"milvus": work.ping})
    breakers.trip(work.error())
    async with asyncio.timeout(DEADLINE_S):
        while work.pings < 3:
            await asyncio.sleep(0.01)
        assert breakers.is_blocking
        work.is_up = True
        await breakers.until_closed()
    assert milvus.pings == 0
    await breakers.stop()


@pytest.mark.parametrize("failure", ["raises what nobody foresaw", "never comes back"])
async def test_a_check_that_goes_wrong_does_not_leave_the_breaker_open_for_ever(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runtime.breaker._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("workers.runtime.breaker._PING_S", 0.05)
    monkeypatch.setattr("ingestion.concurrency.supervision._FIRST_PAUSE_S", 0.02)
    checks = 0

    async def ping() -> None:
        nonlocal checks
        checks += 1
        if checks == 1:
            if failure == "never comes back":
                await asyncio.Event().wait()
            raise KeyError("nobody foresaw this")

    breakers = Breakers({"milvus": ping})
    breakers.trip(DependencyUnavailable("milvus", "no answer"))
    async with asyncio.timeout(DEADLINE_S):
        await breakers.until_closed()
    assert checks == 2
    await breakers.stop()
