"""Which Milvus a local stack runs, before anything is started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from workers.stack import milvus_server
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.server_specs import MilvusKind, check_kind, folders, ports_needed
from workers.stack.supervise import StackError


@pytest.mark.parametrize(("held", "asked"), [("lite", "server"), ("server", "lite")])
def test_vectors_of_the_other_kind_are_not_left_behind_unnoticed(tmp_path: Path, held: str, asked: str) -> None:
    folder = tmp_path / folders(MilvusKind(held), KafkaKind.NOIDA)[-1]
    folder.mkdir()
    check_kind(tmp_path, MilvusKind(asked))
    (folder / "rows").touch()
    check_kind(tmp_path, MilvusKind(held))
    with pytest.raises(StackError, match=f"--milvus {held}"):
        check_kind(tmp_path, MilvusKind(asked))


def test_a_server_that_is_not_installed_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / name))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="make milvus-server"):
        milvus_server.find_executable()


def test_every_port_of_the_server_is_chosen_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = tmp_path / ".milvus-venv" / "bin" / "milvus-server"
    executable.parent.mkdir(parents=True)
    executable.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    ports = {name: 20_000 + number for number, name in enumerate(ports_needed(MilvusKind.SERVER, KafkaKind.NOIDA))}
    spec = milvus_server.spec(tmp_path, ports)
    used = " ".join(spec.argv) + (tmp_path / "etcd.yaml").read_text()
    for name in ("milvus", *milvus_server.PORTS):
        assert str(ports[name]) in used, name


def test_a_start_waits_until_the_sessions_of_the_last_run_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_server, "find_executable", lambda: tmp_path / "milvus-server")
    ports = {name: 20_000 + number for number, name in enumerate(ports_needed(MilvusKind.SERVER, KafkaKind.NOIDA))}
    spec = milvus_server.spec(tmp_path, ports)
    assert spec.start_delay_s() == 0, "no run before"
    log = tmp_path / "data" / "logs" / "milvus-stdout.log"
    log.parent.mkdir(parents=True)
    log.touch()
    session_s = next(int(text.rpartition("=")[2]) for text in spec.argv if text.startswith("common.session.ttl"))
    assert session_s < spec.start_delay_s() < 2 * session_s
    os.utime(log, (0, time.time() - 2 * session_s))
    assert spec.start_delay_s() == 0
    os.utime(log, (0, time.time() + 3600))
    assert spec.start_delay_s() < 2 * session_s, "a clock that was set back"
