"""Threads whose caller is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ingestion.adapters.threads import Threads


async def test_a_result_and_an_exception_come_back() -> None:
    threads = Threads(2, stage="test")
    for call in (threads.read, threads.write):
        assert await call(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await call(lambda: 1 // 0)


async def test_a_cancelled_write_is_waited_for_however_often_it_is_cancelled() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def write() -> None:
        begun.set()
        go_on.wait(10)

    task = asyncio.create_task(Threads(1, stage="test").write(write))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.wait((task,), timeout=0.02)
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_read_is_left_at_once() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def read() -> None:
        begun.set()
        go_on.wait(10)

    task = asyncio.create_task(Threads(1, stage="test").read(read))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not go_on.is_set()
    go_on.set()


async def test_a_write_that_has_not_begun_when_it_is_cancelled_never_begins() -> None:
    threads = Threads(1, stage="test")
    begun, go_on = threading.Event(), threading.Event()
    written: list[str] = []

    def first() -> None:
        begun.set()
        go_on.wait(10)

    running = asyncio.create_task(threads.write(first))
    await asyncio.to_thread(begun.wait, 10)
    waiting = asyncio.create_task(threads.write(lambda: written.append("second")))
    await asyncio.sleep(0)
    waiting.cancel()
    go_on.set()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert written == []
