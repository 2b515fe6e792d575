"""`pagemill bench load` and `pagemill validate` against a whole stack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ITEMS = ("upload-verified", "load", "recall", "delete-verified", "metrics-served", "logs-structured", "milvus-cut-off")


def pagemill(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", *arguments, "--data-dir", str(data_dir)],
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_load_is_measured_and_leaves_nothing(stack_dir: Path, api: httpx.Client, tmp_path: Path) -> None:
    page = tmp_path / "load.html"
    done = pagemill(stack_dir, "bench", "load", "--files", "3", "--pages", "2", "--report", str(page), "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["states"] == {"ready": 3}
    assert 0 < report["accepted"]["p50_s"] <= report["ready"]["p50_s"]
    assert {"api", "worker-1", "milvus"} <= report["most_rss_bytes"].keys()
    assert report["samples"][-1]["lag"] is not None
    assert page.read_text().count("<svg") == 1
    listed = api.get("documents", params={"limit": 1000}).json()["documents"]
    assert [one for one in listed if one["collection"].startswith("bench_load_")] == []


def test_the_checklist_passes_and_leaves_nothing(stack_dir: Path, api: httpx.Client, tmp_path: Path) -> None:
    found, page = tmp_path / "validate.json", tmp_path / "validate.html"
    only = [option for name in ITEMS for option in ("--only", name)]
    size = ("--files", "2", "--pages", "3", "--min-pages-per-s", "0")
    done = pagemill(stack_dir, "validate", *only, *size, "--json", str(found), "--html", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    results = {item["name"]: item for item in json.loads(found.read_text())["items"]}
    assert {name: item["status"] for name, item in results.items()} == dict.fromkeys(ITEMS, "passed"), results
    assert results["upload-verified"]["evidence"]["rows in Milvus"] > 0
    assert set(results["delete-verified"]["evidence"].values()) == {0}
    assert "upload-verified" in page.read_text()
    listed = api.get("documents", params={"limit": 1000}).json()["documents"]
    assert [one for one in listed if one["collection"].startswith("validate_")] == []
