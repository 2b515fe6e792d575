"""Children that run functions on hostile input: how they start, how they end, and how their time is counted."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from ingestion import sandbox
from ingestion.errors import ChildStalled, WorkerFault
from ingestion.sandbox import ChildCrashed, ChildFailed, ChildOutOfMemory, ChildTimeout, Sandbox

MIB = 1024**2


def box() -> Sandbox:
    return Sandbox(processes=1, memory_bytes=1024 * MIB)


def spins() -> None:
    while True:
        pass


def eats() -> int:
    return len(bytearray(4096 * MIB))


async def test_a_child_that_died_while_it_was_idle_is_replaced() -> None:
    children = box()
    idle = psutil.Process(await children.run(os.getpid, timeout_s=30))
    idle.kill()
    idle.wait(10)  # without giving the event loop a chance to notice
    assert await children.run(os.getpid, timeout_s=30) != idle.pid


async def test_a_function_that_takes_too_much_cpu_time_is_ended() -> None:
    with pytest.raises(ChildTimeout, match=r"spins took longer than 0.2 s of CPU time"):
        await box().run(spins, timeout_s=0.2, wall_s=60)


async def test_a_function_that_waits_is_no_fault_of_its_input() -> None:
    with pytest.raises(ChildStalled, match=r"sleep was not done within 0.2 s, of which it had 0.0 s"):
        await box().run(time.sleep, 60, timeout_s=30, wall_s=0.2)


async def test_memory_has_a_limit() -> None:
    with pytest.raises(ChildOutOfMemory, match="eats needs more memory"):
        await box().run(eats, timeout_s=30)


async def test_a_child_that_dies_is_told_with_what_it_died_of() -> None:
    with pytest.raises(ChildCrashed, match="running abort died of SIGABRT"):
        await box().run(os.abort, timeout_s=30)


async def test_a_machine_on_which_no_child_starts_is_told_apart_from_a_bad_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "_START_TIMEOUT_S", 0.0)
    with pytest.raises(WorkerFault, match="no child process"):
        await box().run(abs, -1, timeout_s=30)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.getpid, ())


def evil() -> Evil:
    return Evil()


async def test_what_is_not_plain_data_is_an_error_and_no_code_is_run() -> None:
    with pytest.raises(ChildFailed, match="evil: not plain data: a value of type Evil"):
        await box().run(evil, timeout_s=30)
