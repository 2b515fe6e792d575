"""`pagemill cancel` against the API over fake stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ingestion.model import DocumentState
from tests.support.fake_api import FakeApi
from workers.cli import app


@pytest.fixture(autouse=True)
def _no_stack(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cancel(*arguments: str) -> Result:
    return CliRunner().invoke(app, ("cancel", *arguments))


def states(api: FakeApi) -> dict[str, DocumentState]:
    return {one.filename: one.state for one in api.documents.values()}


def test_documents_are_cancelled_and_finished_ones_are_refused(api: FakeApi) -> None:
    queued, ready = api.add("a.pdf"), api.add("b.pdf", state="ready")
    dry = cancel(queued, ready, "--dry-run")
    assert dry.exit_code == 1
    assert "a.pdf" in dry.stdout and "would be cancelled: queued" in dry.stdout
    assert "is ready: there is no work to cancel" in dry.stdout
    assert states(api)["a.pdf"] == "queued"
    result = cancel(queued, ready, "unknown", "--yes", "--json")
    assert result.exit_code == 1
    outcomes = {one["filename"]: one["outcome"] for one in map(json.loads, result.stdout.splitlines())}
    assert outcomes["a.pdf"] == "cancelled"
    assert "is ready" in outcomes["b.pdf"]
    assert outcomes[None] == "there is no such document"
    assert cancel(queued, "--yes").exit_code == 0  # twice is the same as once


def test_a_collection_or_what_a_filter_selects_is_cancelled(api: FakeApi) -> None:
    for name in ("a.pdf", "b.pdf", "c.pdf"):
        api.add(name, "manuals")
    api.add("d.pdf", "manuals", state="ready")
    some = ("--collection", "manuals", "--filter", "filename = 'a.pdf' or filename = 'd.pdf'")
    dry = cancel(*some, "--dry-run")
    assert dry.exit_code == 0
    assert "1 document(s) of collection manuals in work" in dry.stdout
    assert cancel(*some, "--yes").stdout == "cancelled 1 document(s) of collection manuals\n"
    assert states(api) == {"a.pdf": "cancelled", "b.pdf": "queued", "c.pdf": "queued", "d.pdf": "ready"}
    rest = cancel("--collection", "manuals", "--yes", "--json")
    assert json.loads(rest.stdout) == {"collection": "manuals", "cancelled": 2, "cancelling": 0}


def test_the_command_asks_first(api: FakeApi) -> None:
    document = api.add("a.pdf")
    result = cancel(document)
    assert (result.exit_code, "--yes" in result.stderr) == (1, True)
    assert states(api) == {"a.pdf": "queued"}


@pytest.mark.parametrize("arguments", [(), ("x", "--collection", "c"), ("x", "--filter", "tags has 'a'")])
def test_it_must_be_clear_which_documents_are_meant(api: FakeApi, arguments: tuple[str, ...]) -> None:
    result = cancel(*arguments, "--yes")
    assert result.exit_code == 1
    assert "by --collection, or by --filter" in result.stderr


def test_a_filter_that_cannot_be_read_names_the_character(api: FakeApi) -> None:
    result = cancel("--filter", "team = legal", "--yes")
    assert result.exit_code == 1
    assert "character 8" in result.stderr
