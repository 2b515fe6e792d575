"""Children that run functions on hostile input: how they start, how they end, and how their time is counted."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ingestion.errors import ChildStalled, WorkerFault
from ingestion.sandbox import landlock, pool, seccomp
from ingestion.sandbox.child import run_program
from ingestion.sandbox.client import LauncherClient
from ingestion.sandbox.failures import ChildCrashed, ChildFailed, ChildOutOfMemory, ChildTimeout
from ingestion.sandbox.pool import Sandbox
from ingestion.sandbox.programs import Program
from tests.support.waiting import settled, wait_until

MIB = 1024**2
PYTHON = str(Path(sys.executable).resolve())

PARENT = """
import asyncio, time
from ingestion.sandbox.pool import Sandbox
asyncio.run(Sandbox(processes=1, memory_bytes=1 << 30).run(time.sleep, 600, timeout_s=600))
"""


def box() -> Sandbox:
    return Sandbox(processes=1, memory_bytes=1024 * MIB)


def spins() -> None:
    while True:
        pass


def runs(arguments: list[str]) -> tuple[str, str]:
    out, err = run_program("python", arguments)
    return out.decode(), err.decode()


def eats() -> int:
    return len(bytearray(4096 * MIB))


async def test_a_child_that_died_while_it_was_idle_is_replaced() -> None:
    children = box()
    idle = psutil.Process(await children.run(os.getpid, timeout_s=30))
    idle.kill()
    idle.wait(10)  # before the event loop can notice it
    assert await children.run(os.getpid, timeout_s=30) != idle.pid


async def test_calls_that_replace_idle_children_at_the_same_time_do_not_disturb_each_other() -> None:
    children = Sandbox(processes=2, memory_bytes=1024 * MIB)
    await asyncio.gather(*(children.run(time.sleep, 0.2, timeout_s=1) for _ in range(2)))
    # Both children have too little CPU time left for these calls.
    assert await asyncio.gather(*(children.run(abs, -1, timeout_s=30) for _ in range(2))) == [1, 1]


async def test_a_function_that_takes_too_much_cpu_time_is_ended() -> None:
    with pytest.raises(ChildTimeout, match=r"spins took longer than 0.2 s of CPU time"):
        await box().run(spins, timeout_s=0.2, wall_s=60)


async def test_a_function_that_waits_is_no_fault_of_its_input() -> None:
    with pytest.raises(ChildStalled, match=r"sleep was not done within 0.2 s, of which it had 0.0 s"):
        await box().run(time.sleep, 60, timeout_s=30, wall_s=0.2)


async def test_memory_has_a_limit() -> None:
    with pytest.raises(ChildOutOfMemory, match="eats needs more memory"):
        await box().run(eats, timeout_s=30)


async def test_the_error_of_a_dead_child_names_the_cause() -> None:
    with pytest.raises(ChildCrashed, match="running abort died of SIGABRT"):
        await box().run(os.abort, timeout_s=30)


async def test_a_machine_that_starts_no_child_is_not_taken_for_a_bad_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "_START_TIMEOUT_S", 0.0)
    with pytest.raises(WorkerFault, match="no child process"):
        await box().run(abs, -1, timeout_s=30)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.getpid, ())


def evil() -> Evil:
    return Evil()


async def test_an_answer_that_is_not_plain_data_is_an_error_and_runs_no_code() -> None:
    with pytest.raises(ChildFailed, match="evil: not plain data: a value of type Evil"):
        await box().run(evil, timeout_s=30)


async def test_programs_are_started_confined_and_only_as_the_call_allows(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("example-secret")
    code = f"print(open({str(secret)!r}).read())"
    programs = {"python": Program(PYTHON, lambda arguments: list(arguments) == ["-I", "-S", "-c", code])}
    out, err = await box().run(runs, ["-I", "-S", "-c", code], timeout_s=30, programs=programs)
    assert "example-secret" not in out
    if landlock.version():
        assert "PermissionError" in err
    with pytest.raises(ChildFailed, match="python was not started"):
        await box().run(runs, ["-c", "pass"], timeout_s=30, programs=programs)
    with pytest.raises(ChildFailed, match="python was not started"):
        await box().run(runs, ["-I", "-S", "-c", code], timeout_s=30)


@pytest.mark.skipif(not seccomp.is_available(), reason="the kernel has no seccomp filters")
@pytest.mark.parametrize("attempt", ["os.fork()", "__import__('socket').socket()", "open('/tmp/x', 'w')"])
async def test_programs_get_as_little_as_children(attempt: str) -> None:
    programs = {"python": Program(PYTHON, lambda arguments: True)}
    arguments = ["-I", "-S", "-c", f"import os; {attempt}; print('done')"]
    out, err = await box().run(runs, arguments, timeout_s=30, programs=programs)
    assert out == ""
    assert "Error" in err


async def test_the_cpu_time_of_programs_is_that_of_the_call() -> None:
    programs = {"python": Program(PYTHON, lambda arguments: True)}
    with pytest.raises(ChildTimeout):
        await box().run(runs, ["-I", "-S", "-c", "while True: pass"], timeout_s=0.3, wall_s=60, programs=programs)
    with pytest.raises(ChildStalled):
        arguments = ["-I", "-S", "-c", "import time; time.sleep(60)"]
        await box().run(runs, arguments, timeout_s=30, wall_s=0.3, programs=programs)


async def test_no_process_is_left_where_a_call_is_cancelled() -> None:
    programs = {"python": Program(PYTHON, lambda arguments: True)}
    children, before = box(), set(psutil.Process().children(recursive=True))
    await children.start()

    def started() -> list[psutil.Process]:
        return [one for one in psutil.Process().children(recursive=True) if one not in before]

    for wait_s in (0, 0.001, 0.003, 0.01, 0.03, 0.1):  # at several places in the call
        call = asyncio.create_task(
            children.run(runs, ["-I", "-S", "-c", "while True: pass"], timeout_s=60, programs=programs)
        )
        await asyncio.sleep(wait_s)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await until(lambda: len(started()) == 1)  # the launcher
    children.close()
    await until(lambda: not started())


async def test_a_child_that_is_stopped_has_had_no_cpu_time() -> None:
    children = box()
    await children.start(spins)
    child = psutil.Process(await children.run(os.getpid, timeout_s=30))
    child.suspend()
    with pytest.raises(ChildStalled):
        await children.run(spins, timeout_s=0.5, wall_s=2)
    await until(lambda: not child.is_running())


async def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        await until(lambda: len(psutil.Process(parent.pid).children(recursive=True)) == 2)
        family = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.kill()
        parent.wait()
    await until(lambda: not any(one.is_running() for one in family))


async def test_a_key_on_the_parents_terminal_does_not_reach_children() -> None:
    children = box()
    child = psutil.Process(await children.run(os.getpid, timeout_s=30))
    launcher = child.parent()
    assert launcher is not None
    assert os.getsid(0) not in (os.getsid(child.pid), os.getsid(launcher.pid))


async def test_a_launcher_that_was_killed_is_replaced() -> None:
    children = box()
    pid = await children.run(os.getpid, timeout_s=30)
    launcher = psutil.Process(pid).parent()
    assert launcher is not None
    launcher.kill()
    launcher.wait(10)
    assert await children.run(os.getpid, timeout_s=30) != pid


async def test_a_launcher_that_dies_during_a_call_is_no_fault_of_the_file() -> None:
    children = box()
    pid = await children.run(os.getpid, timeout_s=30)
    call = asyncio.create_task(children.run(time.sleep, 60, timeout_s=30))
    launcher = psutil.Process(pid).parent()
    assert launcher is not None
    await asyncio.sleep(0.05)
    launcher.kill()
    with pytest.raises(WorkerFault):
        await call


def test_a_sandbox_works_in_one_loop_after_another() -> None:
    children = box()
    assert [asyncio.run(children.run(abs, -number, timeout_s=30)) for number in (1, 2)] == [1, 2]


async def test_descriptors_are_given_back() -> None:
    children = box()
    await children.run(abs, -1, timeout_s=30, keep=False)
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        await children.run(abs, -1, timeout_s=30, keep=False)
    with pytest.raises(ChildCrashed):
        await children.run(os.abort, timeout_s=30)
    assert len(list(Path("/dev/fd").iterdir())) <= before + 2  # the threads of one child that may be ending


def naps() -> tuple[float, float]:
    """When it began and when it ended, by a clock that all processes share."""
    began_s = time.monotonic()
    time.sleep(0.05)
    return began_s, time.monotonic()


async def test_calls_beyond_the_number_of_processes_wait(tmp_path: Path) -> None:
    children = Sandbox(processes=2, memory_bytes=1024 * MIB)
    paths = [tmp_path / f"{number}.pdf" for number in range(6)]
    for path in paths:
        path.write_bytes(b"%PDF-1.7")
    times = await asyncio.gather(*(children.run(naps, timeout_s=30, file=path) for path in paths))
    for began_s, _ in times:
        assert sum(began <= began_s < ended for began, ended in times) <= 2


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition, 20)


LATER = """
def answer() -> int:
    return 42
"""


async def test_a_kept_child_is_replaced_where_it_cannot_import_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "later_module.py").write_text(LATER)
    monkeypatch.syspath_prepend(tmp_path)
    later = importlib.import_module("later_module")
    children, file = box(), tmp_path / "file"
    file.touch()
    first = await children.run(os.getpid, timeout_s=30, file=file)
    assert await children.run(later.answer, timeout_s=30, file=file) == 42, "the launcher has imported it first"
    second = await children.run(os.getpid, timeout_s=30, file=file)
    assert second != first
    assert await children.run(later.answer, timeout_s=30, file=file) == 42
    assert await children.run(os.getpid, timeout_s=30, file=file) == second, "a child that has the module is kept"


def test_the_launcher_imports_little_because_every_fork_copies_its_page_tables() -> None:
    code = "import sys, ingestion.sandbox.launcher, ingestion.pdf.pdfium; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "anyio", "structlog", "numpy", "ingestion.settings"} & set(loaded)


async def test_a_socket_with_the_number_of_a_closed_launcher_socket_is_found_readable() -> None:
    launcher = LauncherClient()
    loop, number = asyncio.get_running_loop(), launcher._control.fileno()
    psutil.Process(launcher._process.pid).suspend()
    waiting = asyncio.create_task(launcher.prepare("os", "getpid", ""))
    await settled()  # it waits for the answer now
    launcher.close()
    ours, theirs = socket.socketpair()
    if ours.fileno() != number:
        os.dup2(ours.fileno(), number)
        ours.close()
        ours = socket.socket(fileno=number)
    ours.setblocking(False)
    with ours, theirs:
        received = asyncio.create_task(loop.sock_recv(ours, 1))
        await settled()  # it has found nothing to read, and watches the socket
        theirs.send(b"x")
        async with asyncio.timeout(10):
            assert await received == b"x"
    for task in (waiting, *launcher._exchanges):
        task.cancel()
    await asyncio.gather(waiting, *launcher._exchanges, return_exceptions=True)
