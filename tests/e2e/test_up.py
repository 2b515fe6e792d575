"""`pagemill up` as a child process: start, refusals, crashes of its processes, and signals."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Up, clean_environment
from tests.support.brokers import main_broker
from tests.support.waiting import wait_until
from workers.stack.datadir import DataDir
from workers.stack.kafka_kinds import KafkaKind

pytestmark = pytest.mark.e2e

_SERVERS = ["kafka", "mongo", "redis", "s3", "milvus"]


_WATCH_IMPORTS = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers", "sentence_transformers", "asyncio"):
            with open(os.path.join(os.environ["IMPORTS_SEEN"], name), "a") as seen:
                print(*sys.argv, file=seen)

sys.meta_path.insert(0, Watch())
"""


@pytest.fixture(scope="module")
def imports_seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each watched module that a process of `running` looked for. Its lines: the commands."""
    return tmp_path_factory.mktemp("imports")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, imports_seen: Path) -> Iterator[Up]:
    """One stack for the tests of this file that leave it as it is, and for the last of them, which stops it."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(_WATCH_IMPORTS)
    search = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    settings = {"PYTHONPATH": search, "IMPORTS_SEEN": str(imports_seen)}
    up = Up(tmp_path_factory.mktemp("up"), "--workers", "1", settings=settings)
    try:
        up.wait_ready()
        yield up
    finally:
        _end(up)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A stack of one's own, just being started, without workers."""
    own = Up(tmp_path / "data", "--workers", "0")
    try:
        yield own
    finally:
        _end(own)


def _end(up: Up) -> None:
    if up.process.poll() is None:
        up.stop()


def _tree(up: Up) -> list[psutil.Process]:
    return [child for child in psutil.Process(up.process.pid).children(recursive=True) if child.is_running()]


def _names(up: Up) -> set[str]:
    names = set()
    for process in _tree(up):
        with suppress(psutil.NoSuchProcess):
            names.add(process.name())
    return names


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def _pid(stack: dict[str, Any], name: str) -> int:
    pid: int = next(process["pid"] for process in stack["processes"] if process["name"] == name)
    return pid


def test_up_is_ready_and_says_where(running: Up) -> None:
    stack = running.wait_ready()
    assert [process["name"] for process in stack["processes"]] == [*_SERVERS, "embedder", "api", "worker-1", "janitor"]
    assert {process["pid"] for process in stack["processes"]} <= {process.pid for process in _tree(running)}
    assert stack["kafka_server"] == main_broker()
    for url in (stack["api_url"], stack["embedder_url"]):
        assert httpx.get(f"{url}/ready").status_code == 200
    assert f"pagemill ingest FILE --wait --data-dir {running.data_dir}" in running.output.read_text()


def test_no_process_of_the_local_embedder_looks_for_torch(running: Up, imports_seen: Path) -> None:
    running.wait_ready()  # the worker has rendered and embedded a page: its self-test
    commands = (imports_seen / "asyncio").read_text()
    for process in ("serve embedder", "serve api", "serve worker", "serve janitor"):
        assert process in commands, "the watch on imports does not work"
    assert sorted(path.name for path in imports_seen.iterdir()) == ["asyncio"]


def test_keys_can_be_read_by_their_owner_alone(running: Up) -> None:
    for name in ("stack.json", "secrets.json"):
        assert stat.S_IMODE((running.data_dir / name).stat().st_mode) == 0o600


def test_nothing_listens_beyond_loopback(running: Up) -> None:
    listening = {
        connection.laddr.ip
        for process in _tree(running)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_second_up_on_the_same_directory_is_refused_in_one_line(running: Up) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "workers.cli", "up", "--data-dir", str(running.data_dir)],
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert second.stderr == (
        f"error: data directory {running.data_dir} is in use by the stack of process {running.process.pid}\n"
    )
    assert running.wait_ready(), "the refused one took stack.json away"


def test_a_worker_that_dies_is_reported_and_restarted(running: Up) -> None:
    first = _pid(running.wait_ready(), "worker-1")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: _pid(running.wait_ready(), "worker-1") != first, 30)
    assert psutil.pid_exists(_pid(running.wait_ready(), "worker-1"))
    assert "worker-1 was killed by SIGKILL" in running.output.read_text()


def test_sigterm_stops_everything_with_exit_status_0(running: Up) -> None:
    tree = _tree(running)
    assert running.stop(signal.SIGTERM) == 0
    assert _alive(tree) == []
    assert not (running.data_dir / "stack.json").exists()


def test_a_server_that_dies_ends_the_stack_with_the_end_of_its_log(up: Up) -> None:
    stack = up.wait_ready()
    tree = _tree(up)
    os.kill(_pid(stack, "mongo"), signal.SIGKILL)
    assert up.process.wait(60) == 1
    assert _alive(tree) == []
    reported = up.output.read_text()
    assert f"error: mongo was killed by SIGKILL; the end of {up.data_dir}/logs/mongo.log:\n" in reported
    assert (up.data_dir / "logs" / "mongo.log").read_text().splitlines()[-1] in reported


def test_nothing_survives_an_up_that_is_killed(up: Up) -> None:
    broker = "java" if main_broker() is KafkaKind.APACHE else "noida-db"
    wait_until(lambda: _names(up) >= {broker, "weed", "valkey-server"}, 30)
    tree = _tree(up)
    up.process.kill()
    up.process.wait()
    wait_until(lambda: not _alive(tree), 30)
    # The lock is held by each child, also by one that was started after `tree` was read.
    wait_until(lambda: not DataDir(up.data_dir).is_in_use(), 30)


def test_an_interrupt_while_starting_stops_what_has_been_started(up: Up) -> None:
    wait_until((up.data_dir / "logs" / "milvus.log").exists, 30)
    tree = _tree(up)
    assert up.stop(signal.SIGINT) == 0
    assert tree
    assert _alive(tree) == []
