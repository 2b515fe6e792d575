"""Children that run functions on hostile input."""

from __future__ import annotations

import time

import anyio
import pytest
from anyio import to_process

from ingestion import sandbox
from ingestion.errors import WorkerFault
from ingestion.sandbox import ChildTimeout, Sandbox

MIB = 1024**2


async def test_the_time_a_child_takes_to_start_is_not_the_files() -> None:
    def no_child_is_idle() -> None:
        for process, *_ in to_process._process_pool_idle_workers.get():
            process.kill()

    box = Sandbox(processes=1, memory_bytes=4096 * MIB)
    assert await box.run(abs, -1, timeout_s=30) == 1
    no_child_is_idle()
    await anyio.sleep(0)
    assert await box.run(abs, -1, timeout_s=0.5) == 1


async def test_a_function_that_takes_too_long_is_ended() -> None:
    before = time.monotonic()
    with pytest.raises(ChildTimeout, match="sleep took longer than"):
        await Sandbox(processes=1, memory_bytes=4096 * MIB).run(time.sleep, 60, timeout_s=0.2)
    assert time.monotonic() - before < 30


async def test_a_machine_on_which_no_child_starts_is_told_apart_from_a_bad_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "_START_TIMEOUT_S", 0.0)
    with pytest.raises(WorkerFault, match="no child process"):
        await Sandbox(processes=1, memory_bytes=4096 * MIB).run(abs, -1, timeout_s=30)
