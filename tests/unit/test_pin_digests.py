"""deploy/pin-digests with a registry that the test makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.composefile import ROOT

FOUND, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the script beside files with three images, and a `crane` that knows one digest for all."""
    for name in ("deploy/docker", "bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "deploy/pin-digests", tmp_path / "deploy/pin-digests")
    (tmp_path / "docker-compose.yml").write_text(
        f"    image: pagemill:0.2.0\n    image: apache/kafka:4.3.1@{OTHER}\n    image: milvusdb/milvus:v2.6.20\n"
    )
    (tmp_path / "deploy/docker/Dockerfile").write_text(f"FROM python:3.11@{FOUND} AS build\nFROM build AS slim\n")
    crane = tmp_path / "bin/crane"
    crane.write_text(f'#!/bin/sh\n[ "$1" = digest ] && echo {FOUND}\n')
    crane.chmod(0o755)
    return tmp_path


def pin(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "deploy/pin-digests"), *arguments]
    variables = {"PATH": f"{checkout / 'bin'}:{os.defpath}"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_differences_are_named_and_nothing_is_written(checkout: Path) -> None:
    before = (checkout / "docker-compose.yml").read_text()
    done = pin(checkout)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"docker-compose.yml: apache/kafka:4.3.1: {OTHER}, the registry has {FOUND}",
        f"docker-compose.yml: milvusdb/milvus:v2.6.20: no digest, the registry has {FOUND}",
    ]
    assert (checkout / "docker-compose.yml").read_text() == before


def test_digests_are_written_once(checkout: Path) -> None:
    assert pin(checkout, "--write").returncode == 0
    assert (checkout / "docker-compose.yml").read_text() == (
        "    image: pagemill:0.2.0\n"
        f"    image: apache/kafka:4.3.1@{FOUND}\n"
        f"    image: milvusdb/milvus:v2.6.20@{FOUND}\n"
    )
    again = pin(checkout)
    assert (again.returncode, again.stdout) == (0, "")


def test_an_answer_that_is_no_digest_changes_nothing(checkout: Path) -> None:
    (checkout / "bin/crane").write_text("#!/bin/sh\necho MANIFEST_UNKNOWN >&2; exit 1\n")
    before = (checkout / "docker-compose.yml").read_text()
    done = pin(checkout, "--write")
    assert done.returncode == 1
    assert "MANIFEST_UNKNOWN" in done.stderr
    assert (checkout / "docker-compose.yml").read_text() == before
