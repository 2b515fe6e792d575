"""`pagemill ingest|search|status|delete` against a server that speaks the API's contract."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from ingestion.client.views import DocumentView
from ingestion.hits import Hit
from ingestion.model import DocumentState
from tests.support.contract_api import API_KEY, PAGES, RETRY_AFTER_S, ContractApi, contract_api
from workers.cli import app
from workers.commands.documents.reporters import BarReporter
from workers.commands.terminal import plain
from workers.stack.datadir import DataDir

UNREADABLE = Path("/proc/self/mem")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContractApi]:
    """A running API that the commands find through the settings, and an empty working directory."""
    for name in [name for name in os.environ if name.startswith("PAGEMILL_")]:
        monkeypatch.delenv(name)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    with contract_api() as running:
        monkeypatch.setenv("PAGEMILL_API_URL", running.url)
        monkeypatch.setenv("PAGEMILL_API_KEY", API_KEY)
        yield running


def pagemill(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def json_lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def pdfs(*names: str) -> None:
    for name in names:
        Path(name).write_bytes(b"%PDF-1.7 " + name.encode())


# ingest


def test_waiting_reports_every_document_once_as_ready(api: ContractApi) -> None:
    pdfs("a b.pdf", "c.pdf")
    result = pagemill("ingest", ".", "--wait", "--json")
    assert result.exit_code == 0
    assert sorted((line["path"], line["state"], line["pages"]) for line in json_lines(result)) == [
        ("a b.pdf", "ready", PAGES),
        ("c.pdf", "ready", PAGES),
    ]
    assert {line["document_id"] for line in json_lines(result)} == set(api.documents)


def test_without_waiting_acceptance_is_the_end(api: ContractApi) -> None:
    pdfs("fails-later.pdf")
    result = pagemill("ingest", "fails-later.pdf", "--json")
    (line,) = json_lines(result)
    assert (result.exit_code, line["state"], line["error"]) == (0, "queued", None)


def test_a_refused_file_spoils_only_itself(api: ContractApi) -> None:
    pdfs("bad.pdf", "good.pdf")
    result = pagemill("ingest", "bad.pdf", "good.pdf", "--wait", "--json")
    assert result.exit_code == 1
    ended = {line["path"]: line for line in json_lines(result)}
    assert ended["good.pdf"]["state"] == "ready"
    assert ended["bad.pdf"] == {
        "path": "bad.pdf",
        "document_id": None,
        "state": "refused",
        "pages": None,
        "error": {"code": "not_a_pdf", "message": "the file does not begin with %PDF-"},
    }


def test_a_failed_document_shows_its_error_and_costs_the_exit_status(api: ContractApi) -> None:
    pdfs("fails.pdf")
    result = pagemill("ingest", "fails.pdf", "--wait")
    assert result.exit_code == 1
    assert "page_render_failed: page 2 cannot be drawn" in result.stdout
    assert "1 failed" in result.stdout


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs a file that even root cannot read")
def test_a_file_that_cannot_be_read_is_refused_alone(api: ContractApi) -> None:
    pdfs("good.pdf")
    result = pagemill("ingest", str(UNREADABLE), "good.pdf", "--json")
    assert result.exit_code == 1
    ended = {line["path"]: line for line in json_lines(result)}
    assert ended["good.pdf"]["state"] == "queued"
    assert ended[str(UNREADABLE)]["error"]["code"] == "bad_request"


def test_a_broken_event_stream_is_taken_up_again(api: ContractApi) -> None:
    pdfs("broken.pdf")
    result = pagemill("ingest", "broken.pdf", "--wait", "--json")
    assert [line["state"] for line in json_lines(result)] == ["ready"]
    assert sum(path.endswith("/events") for _, path, _ in api.requests) == 2


def test_a_busy_server_is_asked_again_when_it_said(api: ContractApi) -> None:
    pdfs("busy.pdf")
    assert pagemill("ingest", "busy.pdf").exit_code == 0
    uploads = [at_s for method, _, at_s in api.requests if method == "POST"]
    assert len(uploads) == 2
    assert all(later - earlier >= RETRY_AFTER_S for earlier, later in pairwise(uploads))


def test_a_document_deleted_meanwhile_ends_the_wait(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    pdfs("gone.pdf")
    monkeypatch.setattr(ContractApi, "finish", lambda self, document: self.documents.clear())
    result = pagemill("ingest", "gone.pdf", "--wait", "--json")
    (line,) = json_lines(result)
    assert (result.exit_code, line["error"]["code"]) == (1, "not_found")


def test_a_wrong_key_is_one_line_and_not_one_for_each_file(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    pdfs("a.pdf", "b.pdf")
    monkeypatch.setenv("PAGEMILL_API_KEY", "wrong")
    result = pagemill("ingest", ".", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: the API key is wrong\n"


@pytest.mark.parametrize("name", ['it\'s "q".pdf', "📄.pdf", "x" * 251 + ".pdf"])
def test_a_name_arrives_as_it_is(api: ContractApi, name: str) -> None:
    pdfs(name)
    assert pagemill("ingest", name).exit_code == 0
    # A form parser of this size leaves the quotes as the HTML standard escapes them.
    assert [document["filename"] for document in api.documents.values()] == [name.replace('"', "%22")]


def test_more_documents_than_are_watched_at_a_time_all_end(api: ContractApi) -> None:
    pdfs(*(f"{number}.pdf" for number in range(40)))
    result = pagemill("ingest", ".", "--wait")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "40 ready"
    assert len(result.stdout.splitlines()) == 41


def test_of_many_documents_only_those_being_worked_on_have_a_bar() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, height=200, color_system=None)
    with BarReporter(console, files=300) as reporter:
        for number in range(300):
            state = DocumentState.PROCESSING if number == 7 else DocumentState.QUEUED
            view = DocumentView(document_id="id", filename="x", state=state, pages=20, pages_done=5)
            reporter.progress(Path(f"file-{number}.pdf"), view)
    assert "all documents" in screen.getvalue()
    assert {number for number in range(300) if f"file-{number}.pdf" in screen.getvalue()} == {7}
    assert "5/20 pages" in screen.getvalue()


# where the API is


def running_stack(root: Path, url: str) -> int:
    """What `pagemill up` leaves while it runs: a stack.json and a lock, whose descriptor is returned."""
    directory = DataDir(root)
    directory.make()
    directory.write_stack({"api_url": url, "api_key": API_KEY})
    return asyncio.run(directory.acquire())


@pytest.mark.parametrize(("root", "options"), [("here", ["--data-dir", "here"]), (".pagemill", [])])
def test_a_running_stack_comes_before_the_settings(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch, root: str, options: list[str]
) -> None:
    monkeypatch.setenv("PAGEMILL_API_URL", "http://127.0.0.1:9")
    lock = running_stack(Path(root), api.url)
    try:
        assert pagemill("status", *options).stdout == "no documents\n"
    finally:
        os.close(lock)


def test_a_stack_that_is_not_running_says_what_to_type(api: ContractApi) -> None:
    os.close(running_stack(Path("my stack"), api.url))
    result = pagemill("status", "--data-dir", "my stack")
    assert result.exit_code == 1
    assert "`pagemill up --data-dir 'my stack'`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_a_stack_and_settings_it_says_what_to_type(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGEMILL_API_KEY")
    result = pagemill("search", "anything")
    assert result.exit_code == 1
    assert "`pagemill up`" in result.stderr
    assert "PAGEMILL_API_KEY" in result.stderr


def test_an_api_that_does_not_answer_is_not_waited_for(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_API_URL", "http://127.0.0.1:9")
    result = pagemill("search", "anything")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the API is unavailable: http://127.0.0.1:9: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_stack_file_that_is_none_is_named(api: ContractApi) -> None:
    lock = running_stack(Path("odd"), api.url)
    (Path("odd") / "stack.json").write_text("[]")
    try:
        result = pagemill("status", "--data-dir", "odd")
    finally:
        os.close(lock)
    assert (result.exit_code, "odd/stack.json" in result.stderr) == (1, True)


# search


def hit(**fields: Any) -> dict[str, Any]:
    plain_hit = Hit(document_id="d", filename="a.pdf", page=4, score=1.5, image_url="http://s3/i.webp", snippet="text")
    return plain_hit.model_dump() | fields


def test_hits_are_json_lines_with_their_rank(api: ContractApi) -> None:
    api.hits = [hit(page=9), hit(page=2)]
    assert json_lines(pagemill("search", "q", "--json")) == [{"rank": 1, **hit(page=9)}, {"rank": 2, **hit(page=2)}]
    assert len(json_lines(pagemill("search", "q", "--json", "--top-k", "1"))) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "caf\udce9"),
        ("search", "x", "--collection", "caf\udce9"),
        ("status", "caf\udce9"),
        ("status", "--collection", "caf\udce9"),
        ("delete", "--yes", "caf\udce9"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_one_line_of_error(api: ContractApi, arguments: tuple[str, ...]) -> None:
    result = pagemill(*arguments)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and "U+DCE9 at position 3" in line


def test_finding_nothing_is_said_and_no_error(api: ContractApi) -> None:
    result = pagemill("search", "q", "--collection", "books")
    assert (result.exit_code, result.stdout) == (0, "nothing found in collection books\n")
    assert (pagemill("search", "q", "--json").exit_code, pagemill("search", "q", "--json").stdout) == (0, "")


def test_what_documents_say_cannot_steer_the_terminal(api: ContractApi) -> None:
    api.hits = [hit(filename="\x1b]0;gotcha\x07.pdf", snippet="[red]\x1b[2Jboo[/red] [link=x]\u202eevil\x9b31m")]
    shown = pagemill("search", "q", "--images").stdout
    assert "[red]" in shown
    assert "[link=x]" in shown
    assert "http://s3/i.webp" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)


@given(st.text())
def test_plain_text_is_one_printable_line(text: str) -> None:
    cleaned = plain(text)
    assert cleaned.isprintable()
    assert cleaned == plain(cleaned)


# status and delete


def test_all_pages_of_a_listing_are_read_and_counted(api: ContractApi) -> None:
    for number in range(5):
        api.add(f"{number}.pdf", state="ready" if number else "failed")
    api.add("other.pdf", collection="other")
    assert pagemill("status", "--collection", "default").stdout.splitlines()[-1] == "1 failed, 4 ready"
    assert len(json_lines(pagemill("status", "--json"))) == 6


def test_one_document_is_shown_in_detail(api: ContractApi) -> None:
    document_id = api.add("fails.pdf")
    api.finish(api.documents[document_id])
    shown = pagemill("status", document_id).stdout
    assert all(part in shown for part in (document_id, "failed", "page_render_failed", "page 2 cannot be drawn"))


def test_an_unknown_document_is_one_line_of_error(api: ContractApi) -> None:
    result = pagemill("status", "nope")
    assert (result.exit_code, result.stderr) == (1, "error: no document nope\n")


def test_deleting_needs_a_yes(api: ContractApi) -> None:
    document_id = api.add("a.pdf")
    result = pagemill("delete", document_id)
    assert (result.exit_code, "--yes" in result.stderr) == (1, True)
    assert document_id in api.documents


def test_deleting_says_what_was_deleted_and_what_was_not_found(api: ContractApi) -> None:
    keep, drop = api.add("keep.pdf"), api.add("drop.pdf")
    result = pagemill("delete", drop, "unknown", drop, "--yes")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["no document unknown", f"deleted drop.pdf {drop}"]
    assert set(api.documents) == {keep}
