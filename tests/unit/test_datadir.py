"""The files of a local stack: their permissions, and what they keep between runs."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from workers.stack.datadir import DataDir
from workers.stack.supervise import StackError


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.make()
    return made


async def test_a_directory_is_used_by_one_stack_at_a_time(directory: DataDir) -> None:
    lock = await directory.acquire()
    with pytest.raises(StackError, match=f"in use by the stack of process {os.getpid()}$"):
        await directory.acquire()
    os.close(lock)
    os.close(await directory.acquire())


async def test_stack_json_is_believed_only_while_its_stack_runs(directory: DataDir) -> None:
    lock = await directory.acquire()
    directory.write_stack({"api_url": "http://127.0.0.1:1"})
    assert directory.read_stack() == {"api_url": "http://127.0.0.1:1"}
    os.close(lock)
    assert directory.read_stack() is None


_HOLDER = """
import asyncio, subprocess, sys
from pathlib import Path
from workers.stack.datadir import DataDir
directory = DataDir(Path(sys.argv[1]))
lock = asyncio.run(directory.acquire())
directory.write_stack({"api_url": "http://127.0.0.1:1"})
subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=[lock])
"""


async def test_acquire_waits_for_the_processes_of_a_killed_stack(directory: DataDir) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(directory.root)], stdin=subprocess.PIPE)
    holder.wait(30)  # its own child goes on, with the lock, until its input ends
    assert directory.is_in_use()
    assert directory.read_stack() is None

    assert holder.stdin is not None
    holder.stdin.close()
    os.close(await directory.acquire())


def test_secrets_stay_and_are_their_owners_alone(directory: DataDir) -> None:
    secrets = directory.secrets()
    assert DataDir(directory.root).secrets() == secrets
    assert len({secrets.api_key, secrets.s3_access_key, secrets.s3_secret_key}) == 3
    assert stat.S_IMODE((directory.root / "secrets.json").stat().st_mode) == 0o600


def test_a_damaged_file_is_named(directory: DataDir) -> None:
    (directory.root / "secrets.json").write_text("{")
    with pytest.raises(StackError, match=r"secrets\.json cannot be read"):
        directory.secrets()


def test_ports_stay_the_same_unless_they_are_taken(directory: DataDir) -> None:
    first = directory.ports(["kafka", "mongo"])
    assert len(set(first.values())) == 2
    assert directory.ports(["kafka", "mongo"]) == first
    with socket.create_server(("127.0.0.1", first["kafka"])):
        second = directory.ports(["kafka", "mongo"])
    assert second["mongo"] == first["mongo"]
    assert second["kafka"] not in first.values()


def test_ports_chosen_later_differ_from_those_chosen_before(
    directory: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = directory.ports(["kafka"])["kafka"]
    monkeypatch.setattr("random.choice", lambda ports, tried=iter((kafka, kafka + 1, kafka + 2)): next(tried))
    assert directory.ports(["api"])["api"] != kafka


def test_two_stacks_that_start_at_once_choose_different_ports(
    directory: DataDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kafka = directory.ports(["kafka"])["kafka"]
    other = DataDir(tmp_path / "other")
    other.make()
    monkeypatch.setattr("random.choice", lambda ports, tried=iter((kafka, kafka + 1, kafka + 2)): next(tried))
    assert other.ports(["kafka"])["kafka"] != kafka


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"file/data cannot be made: Not a directory"):
        DataDir(tmp_path / "file" / "data").make()
