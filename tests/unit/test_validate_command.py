"""`pagemill validate` against the API over fake stores, like a system whose servers cannot be reached."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support.fake_api import FakeApi
from workers.cli import app
from workers.commands import validation
from workers.validation.context import Context
from workers.validation.finding import Finding, Item, passed


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> tuple[None, str]:
        return None, "no server answers"

    monkeypatch.setattr(validation, "_services", none)


def validate(*options: str) -> Result:
    return CliRunner().invoke(app, ["validate", *options, "--json", "found.json"], catch_exceptions=False)


def statuses() -> dict[str, str]:
    found: dict[str, Any] = json.loads(Path("found.json").read_text())
    return {item["name"]: item["status"] for item in found["items"]}


def test_items_without_their_servers_are_skipped_and_the_others_pass(api: FakeApi) -> None:
    result = validate("--only", "upload-verified", "--only", "delete-verified", "--only", "disk")
    assert result.exit_code == 0, result.output
    assert statuses() == {"upload-verified": "skipped", "delete-verified": "passed", "disk": "skipped"}
    assert "no server answers" in result.stdout
    assert api.documents == {}


def test_a_failed_item_gives_exit_status_1(api: FakeApi) -> None:
    result = validate("--only", "load", "--files", "2", "--pages", "1", "--min-pages-per-s", "1000000")
    assert result.exit_code == 1
    assert statuses() == {"load": "failed"}
    assert "pages a second are fewer than 1e+06" in result.stdout
    assert api.documents == {}


def test_an_interrupted_run_cleans_up_and_reports_what_it_has(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupting(context: Context) -> Finding:
        await context.ingest("left", 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await context.ingest("never", 1)
        return passed("not reached")

    async def done(_: Context) -> Finding:
        return passed("done")

    items = (Item("first", "?", done), Item("second", "?", interrupting), Item("third", "?", done))
    monkeypatch.setattr(validation, "BEFORE_PRODUCTION", items)
    result = validate()
    assert result.exit_code == 130
    assert statuses() == {"first": "passed", "second": "skipped", "third": "skipped"}
    assert api.documents == {}


def test_an_unknown_item_is_refused_before_anything_is_asked(api: FakeApi) -> None:
    result = validate("--only", "lod")
    assert result.exit_code == 1
    assert "no item is called 'lod'; `pagemill validate --list` lists them" in result.stderr
    assert api.requests == []
