"""Child processes: how they start, and that they end with their parent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from workers.stack.supervise import ProcessSpec, StackError, Supervised

_DEADLINE_S = 20.0
_PARENT = """
import asyncio, sys
from pathlib import Path
from workers.stack.supervise import ProcessSpec, Supervised

async def main() -> None:
    child = Supervised(ProcessSpec("child", ("sleep", "600"), "", None), Path(sys.argv[1]))
    await child.start()
    while Path(f"/proc/{child.pid}/comm").read_text() != "sleep\\n":
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def _no_probe() -> None: ...


def child(folder: Path, *argv: str) -> Supervised:
    return Supervised(ProcessSpec("child", argv, "", _no_probe), folder / "child.log")


async def test_a_start_runs_no_fork_handler(tmp_path: Path) -> None:
    """Those of gRPC ended 56 of 1,342 children with SIGABRT before they ran their program."""
    forks: list[bool] = []
    os.register_at_fork(before=lambda: forks.append(True))
    process = child(tmp_path, "true")
    await process.start()
    assert await process.wait() == 0
    assert not forks


async def test_a_program_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="child cannot be started: no program /nowhere/server"):
        await child(tmp_path, "/nowhere/server").start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a process that ends")
async def test_a_process_does_not_outlive_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "child.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            pid = int(await asyncio.to_thread(parent.stdout.readline))
            assert psutil.Process(pid).name() == "sleep"
        finally:
            parent.kill()
    await asyncio.to_thread(wait_until, lambda: _has_ended(pid), _DEADLINE_S)


def _has_ended(pid: int) -> bool:
    """The init process may take a second to remove what is left of a child that lost its parent."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
