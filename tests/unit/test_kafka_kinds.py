"""Which Kafka a local stack uses, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.commands.doctor.checks import CheckStatus, check_machine
from workers.stack import apache_kafka, kafka_kinds, server_specs
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.server_specs import MilvusKind
from workers.stack.stack_file import environment_of
from workers.stack.supervise import StackError


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only Java of this machine; it says that it is version 17."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return _make_java(tmp_path / "bin", "17.0.15")


@pytest.fixture
def kafka_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "kafka_2.13-4.3.1"
    (home / "libs").mkdir(parents=True)
    (home / "libs" / "kafka-server-4.3.1.jar").touch()
    monkeypatch.setenv("KAFKA_HOME", str(home))
    return home


def _make_java(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    return java


def test_auto_is_apache_kafka_where_it_and_java_are_installed(
    kafka_home: Path, java: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kafka_kinds.choose(tmp_path, KafkaKind.AUTO) is KafkaKind.APACHE
    java.unlink()
    assert kafka_kinds.choose(tmp_path, KafkaKind.AUTO) is KafkaKind.NOIDA
    _make_java(java.parent, "17")
    monkeypatch.delenv("KAFKA_HOME")
    assert kafka_kinds.choose(tmp_path, KafkaKind.AUTO) is KafkaKind.NOIDA


@pytest.mark.parametrize(("held", "asked"), [("noida", "apache"), ("apache", "noida"), ("apache", "given")])
def test_jobs_in_another_kafka_are_not_left_behind_unnoticed(
    kafka_home: Path, java: Path, tmp_path: Path, held: str, asked: str
) -> None:
    folder = tmp_path / kafka_kinds.FOLDERS[KafkaKind(held)]
    folder.mkdir()
    assert kafka_kinds.choose(tmp_path, KafkaKind(asked)) is KafkaKind(asked)
    (folder / "log").touch()
    assert kafka_kinds.choose(tmp_path, KafkaKind.AUTO) is KafkaKind(held)
    with pytest.raises(StackError, match=f"use --kafka {held}, or another --data-dir"):
        kafka_kinds.choose(tmp_path, KafkaKind(asked))


def test_a_folder_that_is_no_kafka_is_named(tmp_path: Path, java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(StackError, match=rf"KAFKA_HOME={tmp_path} is no Apache Kafka 4 \(.*libs has no kafka-server"):
        apache_kafka.find_home()
    [found] = [one for one in check_machine(tmp_path, "remote", needs_servers=True) if one.name == "kafka server"]
    assert found.status is CheckStatus.MISSING
    assert found.remedy.startswith("unpack a release from https://")
    monkeypatch.delenv("KAFKA_HOME")
    with pytest.raises(StackError, match="KAFKA_HOME is not set"):
        apache_kafka.find_home()


@pytest.mark.parametrize("version", ["1.8.0_412", "11.0.2", "16"])
def test_an_old_java_is_named_with_what_to_install(java: Path, version: str) -> None:
    _make_java(java.parent, version)
    with pytest.raises(StackError, match=rf"needs Java 17, and {java} is Java \d+: install Java 17"):
        apache_kafka.require_java()


def test_a_missing_java_is_named_with_what_to_install(java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apache_kafka.require_java() == java
    java.unlink()
    with pytest.raises(StackError, match="the PATH has none: install Java 17"):
        apache_kafka.require_java()
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(StackError, match="JAVA_HOME=/nowhere has none: install Java 17"):
        apache_kafka.require_java()


def test_every_port_and_the_folder_of_the_broker_are_its_own(kafka_home: Path, java: Path, tmp_path: Path) -> None:
    names = server_specs.ports_needed(MilvusKind.LITE, KafkaKind.APACHE)
    ports = {name: 20_000 + number for number, name in enumerate(names)}
    spec = apache_kafka.spec(tmp_path, ports)
    properties = (tmp_path / "server.properties").read_text()
    for name in ("kafka", *apache_kafka.PORTS):
        assert str(ports[name]) in properties, name
    assert f"log.dirs={tmp_path}/log" in properties
    assert "auto.create.topics.enable=false" in properties
    assert f"{kafka_home}/libs/*" in spec.argv


def test_a_given_kafka_is_used_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_BOOTSTRAP", "broker.example:9093")
    assert server_specs.kafka_environment({}, KafkaKind.GIVEN) == {"PAGEMILL_KAFKA_BOOTSTRAP": "broker.example:9093"}
    assert "kafka" not in " ".join(server_specs.folders(MilvusKind.LITE, KafkaKind.GIVEN))


@pytest.mark.parametrize(("kind", "stand_in"), [("noida", "true"), ("apache", "false"), ("given", None)])
def test_only_noida_db_is_treated_as_a_stand_in(kind: str, stand_in: str | None) -> None:
    keys = ("api_url", "api_key", "embedder_url", "kafka", "mongo", "redis", "milvus")
    s3 = dict.fromkeys(("endpoint", "access_key", "secret_key", "bucket"), "")
    environment = environment_of({**dict.fromkeys(keys, ""), "s3": s3, "kafka_server": kind})
    assert environment.get("PAGEMILL_KAFKA_STAND_IN") == stand_in
