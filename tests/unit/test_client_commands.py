"""`pagemill ingest|search|status|delete` against the API over fake stores."""

from __future__ import annotations

import asyncio
import io
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from ingestion.client.views import DocumentView
from ingestion.filters import parse_filter
from ingestion.hits import Hit
from ingestion.model import DocumentState
from tests.support.fake_api import API_KEY, PAGES, FakeApi
from workers.cli import app
from workers.commands.documents.reporters import BarReporter
from workers.commands.terminal import plain
from workers.stack.datadir import DataDir

UNREADABLE = Path("/proc/self/mem")
RETRY_AFTER_S = 1


def pagemill(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def json_lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def pdfs(*names: str) -> None:
    for name in names:
        Path(name).write_bytes(b"%PDF-1.7 " + os.fsencode(name))


# ingest


def test_wait_reports_each_document_once_as_ready(api: FakeApi) -> None:
    pdfs("a b.pdf", "c.pdf")
    result = pagemill("ingest", ".", "--wait", "--json")
    assert result.exit_code == 0
    assert sorted((line["path"], line["state"], line["pages"]) for line in json_lines(result)) == [
        ("a b.pdf", "ready", PAGES),
        ("c.pdf", "ready", PAGES),
    ]
    assert {line["document_id"] for line in json_lines(result)} == set(api.documents)


def test_without_wait_an_accepted_document_is_the_result(api: FakeApi) -> None:
    pdfs("fails-later.pdf")
    result = pagemill("ingest", "fails-later.pdf", "--json")
    (line,) = json_lines(result)
    assert (result.exit_code, line["state"], line["error"]) == (0, "queued", None)


def test_a_refused_file_does_not_affect_others(api: FakeApi) -> None:
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


def test_a_failed_document_shows_its_error_and_exits_1(api: FakeApi) -> None:
    pdfs("fails.pdf")
    result = pagemill("ingest", "fails.pdf", "--wait")
    assert result.exit_code == 1
    assert "page_render_failed: page 2 cannot be rendered" in result.stdout
    assert "1 failed" in result.stdout


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs a file that even root cannot read")
def test_an_unreadable_file_does_not_affect_others(api: FakeApi) -> None:
    pdfs("good.pdf")
    result = pagemill("ingest", str(UNREADABLE), "good.pdf", "--json")
    assert result.exit_code == 1
    ended = {line["path"]: line for line in json_lines(result)}
    assert ended["good.pdf"]["state"] == "queued"
    assert ended[str(UNREADABLE)]["error"]["code"] == "bad_request"


def test_a_broken_event_stream_is_opened_again(api: FakeApi) -> None:
    pdfs("broken.pdf")
    result = pagemill("ingest", "broken.pdf", "--wait", "--json")
    assert [line["state"] for line in json_lines(result)] == ["ready"]
    assert sum(path.endswith("/events") for _, path, _ in api.requests) == 2


def test_a_503_is_retried_after_retry_after(api: FakeApi) -> None:
    pdfs("busy.pdf")
    assert pagemill("ingest", "busy.pdf").exit_code == 0
    uploads = [at_s for method, _, at_s in api.requests if method == "POST"]
    assert len(uploads) == 2
    assert all(later - earlier >= RETRY_AFTER_S for earlier, later in pairwise(uploads))


def test_a_deleted_document_ends_the_wait(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    pdfs("gone.pdf")
    monkeypatch.setattr(FakeApi, "finish", lambda self, document: self.documents.clear())
    result = pagemill("ingest", "gone.pdf", "--wait", "--json")
    (line,) = json_lines(result)
    assert (result.exit_code, line["state"], line["error"]) == (1, "deleted", None)


def test_a_wrong_key_is_one_error_for_all_files(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    pdfs("a.pdf", "b.pdf")
    monkeypatch.setenv("PAGEMILL_API_KEY", "wrong")
    result = pagemill("ingest", ".", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: the API key is wrong\n"


@pytest.mark.parametrize("name", ['it\'s "q".pdf', "📄.pdf", "x" * 251 + ".pdf"])
def test_a_file_name_arrives_unchanged(api: FakeApi, name: str) -> None:
    pdfs(name)
    assert pagemill("ingest", name).exit_code == 0
    assert [document.filename for document in api.documents.values()] == [name]


@pytest.mark.parametrize(
    ("name", "shown"), [("レポート.pdf".encode("cp932"), "レポート.pdf"), (b"caf\xe9.pdf", "café.pdf")]
)
def test_a_file_name_that_is_not_utf_8_stays_readable(api: FakeApi, name: bytes, shown: str) -> None:
    pdfs(os.fsdecode(name))
    assert pagemill("ingest", os.fsdecode(name)).exit_code == 0
    assert [document.filename for document in api.documents.values()] == [shown]


def test_a_collection_name_that_cannot_be_used_is_one_error_before_anything_is_sent(api: FakeApi) -> None:
    pdfs("a.pdf", "b.pdf")
    result = pagemill("ingest", "a.pdf", "b.pdf", "--collection", "no name")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: collection name 'no name' is not usable")
    assert not api.requests


def test_more_documents_than_are_watched_at_once_all_finish(api: FakeApi) -> None:
    pdfs(*(f"{number}.pdf" for number in range(40)))
    result = pagemill("ingest", ".", "--wait")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "40 ready"
    assert len(result.stdout.splitlines()) == 41


def test_only_documents_in_progress_have_a_bar() -> None:
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


# the address of the API


def running_stack(root: Path, url: str) -> int:
    """What `pagemill up` leaves while it runs: a stack.json and a lock, whose descriptor is returned."""
    directory = DataDir(root)
    directory.make()
    directory.write_stack({"api_url": url, "api_key": API_KEY})
    return asyncio.run(directory.acquire())


@pytest.mark.parametrize(("root", "options"), [("here", ["--data-dir", "here"]), (".pagemill", [])])
def test_a_running_stack_is_preferred_to_the_settings(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, root: str, options: list[str]
) -> None:
    monkeypatch.setenv("PAGEMILL_API_URL", "http://127.0.0.1:9")
    lock = running_stack(Path(root), api.url)
    try:
        assert pagemill("status", *options).stdout == "no documents\n"
    finally:
        os.close(lock)


def test_a_stopped_stack_is_an_error_with_the_command_to_start_it(api: FakeApi) -> None:
    os.close(running_stack(Path("my stack"), api.url))
    result = pagemill("status", "--data-dir", "my stack")
    assert result.exit_code == 1
    assert "`pagemill up --data-dir 'my stack'`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_stack_and_settings_the_error_says_what_to_set(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGEMILL_API_KEY")
    result = pagemill("search", "anything")
    assert result.exit_code == 1
    assert "`pagemill up`" in result.stderr
    assert "PAGEMILL_API_KEY" in result.stderr


def test_an_api_that_never_answered_is_not_retried(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_API_URL", "http://127.0.0.1:9")
    result = pagemill("search", "anything")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the API is unavailable: http://127.0.0.1:9: ")
    assert len(result.stderr.splitlines()) == 1


def test_an_invalid_stack_file_is_named(api: FakeApi) -> None:
    lock = running_stack(Path("odd"), api.url)
    (Path("odd") / "stack.json").write_text("[]")
    try:
        result = pagemill("status", "--data-dir", "odd")
    finally:
        os.close(lock)
    assert (result.exit_code, "odd/stack.json" in result.stderr) == (1, True)


# search


HIT = Hit(document_id="d", filename="a.pdf", page=4, score=1.5, image_url="http://s3/i.webp", snippet="text")


def test_hits_are_json_lines_with_their_rank(api: FakeApi) -> None:
    api.hits = [HIT.model_copy(update={"page": 9}), HIT.model_copy(update={"page": 2})]
    first, second = (
        hit.model_dump()
        | {"page_url": f"/api/v1/documents/d/pages/{hit.page}"}
        | {"page_image_url": f"/api/v1/documents/d/pages/{hit.page}/image?v=0"}
        for hit in api.hits
    )
    assert json_lines(pagemill("search", "q", "--json")) == [{"rank": 1, **first}, {"rank": 2, **second}]
    assert len(json_lines(pagemill("search", "q", "--json", "--top-k", "1"))) == 1


def test_notes_are_on_standard_error_beside_the_hits(api: FakeApi) -> None:
    api.hits, api.notes = [HIT], ["words were not searched in 1 document(s)"]
    result = pagemill("search", "q", "--mode", "lexical", "--json")
    assert (result.exit_code, len(json_lines(result))) == (0, 1)
    assert result.stderr == "note: words were not searched in 1 document(s)\n"
    assert pagemill("search", "q", "--mode", "psychic").exit_code == 2


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
def test_an_argument_that_is_not_utf_8_is_one_line_of_error(api: FakeApi, arguments: tuple[str, ...]) -> None:
    result = pagemill(*arguments)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and "U+DCE9 at position 3" in line


def test_no_hits_are_no_error(api: FakeApi) -> None:
    result = pagemill("search", "q", "--collection", "books")
    assert (result.exit_code, result.stdout) == (0, "nothing found in collection books\n")
    assert (pagemill("search", "q", "--json").exit_code, pagemill("search", "q", "--json").stdout) == (0, "")


def test_control_sequences_in_hits_do_not_reach_the_terminal(api: FakeApi) -> None:
    hostile = {
        "filename": "\x1b]0;gotcha\x07.pdf",
        "snippet": "[red]\x1b[2Jboo[/red] [link=x]\u202eevil\x9b31m",
    }
    api.hits = [HIT.model_copy(update=hostile)]
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


def test_all_pages_of_a_listing_are_read_and_counted(api: FakeApi) -> None:
    for number in range(5):
        api.add(f"{number}.pdf", state="ready" if number else "failed")
    api.add("other.pdf", collection="other")
    assert pagemill("status", "--collection", "default").stdout.splitlines()[-1] == "1 failed, 4 ready"
    assert len(json_lines(pagemill("status", "--json"))) == 6


def test_one_document_is_shown_in_detail(api: FakeApi) -> None:
    document_id = api.add("fails.pdf")
    api.finish(api.documents[document_id])
    shown = pagemill("status", document_id).stdout
    assert all(part in shown for part in (document_id, "failed", "page_render_failed", "page 2 cannot be rendered"))


def test_an_unknown_document_is_one_line_of_error(api: FakeApi) -> None:
    result = pagemill("status", "nope")
    assert (result.exit_code, result.stderr) == (1, "error: no document nope\n")


def test_delete_needs_confirmation(api: FakeApi) -> None:
    document_id = api.add("a.pdf")
    result = pagemill("delete", document_id)
    assert (result.exit_code, "--yes" in result.stderr) == (1, True)
    assert document_id in api.documents


def test_delete_reports_deleted_and_unknown_documents(api: FakeApi) -> None:
    keep, drop = api.add("keep.pdf"), api.add("drop.pdf")
    result = pagemill("delete", drop, "unknown", drop, "--yes")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["no document unknown", f"deleted drop.pdf {drop}"]
    assert set(api.documents) == {keep}


def test_metadata_tags_and_key_go_with_the_file(api: FakeApi) -> None:
    pdfs("a.pdf")
    labels = ("--meta", "team=legal", "--meta", "year=2026", "--meta", "signed=true", "--meta", 'zip="01234"')
    assert pagemill("ingest", "a.pdf", *labels, "--tag", "draft", "--tag", "b c", "--key", "k/1").exit_code == 0
    [document] = api.documents.values()
    assert document.metadata == {"team": "legal", "year": 2026, "signed": True, "zip": "01234"}
    assert (document.tags, document.key) == (("draft", "b c"), "k/1")
    shown = pagemill("status", document.id).stdout
    assert "year=2026" in shown
    assert "draft, b c" in shown


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("--meta", "team"), "KEY=VALUE"),
        (("--meta", "a b=1"), "metadata key"),
        (("--key", "k"), "run the command for each file"),
    ],
)
def test_labels_that_cannot_be_used_are_one_line_of_error(
    api: FakeApi, arguments: tuple[str, ...], advice: str
) -> None:
    pdfs("a.pdf", "b.pdf")
    result = pagemill("ingest", "a.pdf", "b.pdf", *arguments)
    assert result.exit_code == 1
    assert advice in result.stderr
    assert not api.documents


def three_documents(api: FakeApi) -> None:
    pdfs("a.pdf", "b.pdf", "c.pdf", "d.pdf")
    for name in "abc":
        pagemill("ingest", f"{name}.pdf", "--meta", "team=legal", "--key", name)
    pagemill("ingest", "d.pdf")


def test_a_filter_narrows_the_listing_and_the_search(api: FakeApi) -> None:
    three_documents(api)
    listed = json_lines(pagemill("status", "--filter", "team = 'legal'", "--json"))
    assert sorted(one["filename"] for one in listed) == ["a.pdf", "b.pdf", "c.pdf"]
    assert pagemill("search", "x", "--filter", "team = 'legal'").exit_code == 0
    assert api.filters == [parse_filter("team = 'legal'")]
    wrong = pagemill("search", "x", "--filter", "team = legal")
    assert wrong.exit_code == 1
    assert "filter, character 8" in wrong.stderr


def test_delete_by_filter_shows_first_what_it_would_delete(api: FakeApi) -> None:
    three_documents(api)
    dry = pagemill("delete", "--filter", "team = 'legal'", "--dry-run")
    assert dry.exit_code == 0
    assert dry.stdout.count("would delete") == 3
    assert "3 document(s)" in dry.stdout
    assert len(api.documents) == 4
    assert pagemill("delete", "--key", "a", "--yes").exit_code == 0
    assert pagemill("delete", "--filter", "team = 'legal'", "--yes").exit_code == 0
    assert [one.filename for one in api.documents.values()] == ["d.pdf"]
    both = pagemill("delete", "x", "--key", "a", "--yes")
    assert both.exit_code == 1
    assert "by --filter, or by --key" in both.stderr
