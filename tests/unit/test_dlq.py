"""`pagemill dlq`: refused arguments, times, selections, and the report of a letter."""

from __future__ import annotations

import io
import runpy
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import anyio
import pytest
import typer
from rich.console import Console, RenderableType
from typer.testing import CliRunner, Result

from ingestion.dead_letters import DeadLetter
from ingestion.messages import Origin, encode_job
from ingestion.model import Event, Failure, IngestJob, LetterMark
from ingestion.replay.entries import DeadLetterEntry, DeadLetterStatus
from ingestion.replay.replayer import paced
from ingestion.replay.selection import Selection
from tests.support.documents import document
from workers.cli import app
from workers.commands.dlq.filters import StatusOption, parse_time
from workers.commands.dlq.views import letter_report, letter_table, report_json

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ESCAPE = "\x1b[31m"


def letter(filename: str = "a.pdf", value: bytes | None = None) -> DeadLetter:
    key, job, headers = encode_job(IngestJob("d1", "manuals", filename))
    return DeadLetter(
        id="d1-5-2",
        key=key,
        value=job if value is None else value,
        headers=(*headers, ("theirs", b"\xff")),
        origin=Origin("jobs", 3, 17),
        group="workers",
        delivery_count=5,
        failure=Failure("internal", "embed", f"a {ESCAPE}bug"),
        exception_class="ingestion.errors.WorkerFault",
        stacktrace=f"Traceback:\n    indented {ESCAPE}line\n",
        timestamp=NOON,
        document_id="d1",
        fence=2,
    )


def shown(renderable: RenderableType) -> str:
    screen = io.StringIO()
    Console(file=screen, width=200).print(renderable)
    return screen.getvalue()


def pagemill(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


# arguments


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_nothing_is_done_to_letters_unless_it_is_said_which(command: str) -> None:
    result = pagemill("dlq", command, "--why", "no reason")
    assert result.exit_code == 2
    assert "--all" in result.stderr


@pytest.mark.parametrize("arguments", [("--rate", "0"), ("--rate", "-1"), ("--rate", "nan"), ("--since", "soon")])
def test_an_option_that_cannot_be_meant_is_refused_by_name(arguments: tuple[str, str]) -> None:
    result = pagemill("dlq", "replay", "--all", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_a_data_directory_without_a_stack_is_an_error_that_names_it(tmp_path: Path) -> None:
    result = pagemill("dlq", "list", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert f"none runs on {tmp_path}" in result.stderr


def test_the_module_is_an_entry_to_the_same_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["replay", "discard", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("workers.replay", run_name="__main__")
    assert "Their documents stay failed" in capsys.readouterr().out


def test_every_status_can_be_asked_for() -> None:
    assert {state.value for state in StatusOption} == {status.value for status in DeadLetterStatus} | {"all"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01T12:00", NOON),
        ("2026-05-01T12:00:00Z", NOON),
        ("2026-05-01T14:00+02:00", NOON),
        ("2026-05-01", NOON.replace(hour=0)),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_a_duration_is_so_long_ago(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    assert before - ago <= parse_time(text) <= datetime.now(UTC) - ago


@pytest.mark.parametrize("text", ["", "2", "2y", "-2h", "yesterday", "9999999999d", "9" * 5000 + "d"])
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_time(text)


# selection


@pytest.mark.parametrize(
    ("selection", "takes"),
    [
        (Selection(), True),
        (Selection(ids=frozenset({"d1"})), True),
        (Selection(ids=frozenset({"d1-5-2"})), True),
        (Selection(ids=frozenset({"d1-5"})), False),
        (Selection(code="internal"), True),
        (Selection(code="intern"), False),
        (Selection(collection="manuals"), True),
        (Selection(collection="manual"), False),
        (Selection(tenant="default"), True),
        (Selection(tenant="acme"), False),
        (Selection(since=NOON), True),
        (Selection(until=NOON), False),
        (Selection(until=NOON + timedelta(microseconds=1)), True),
        (Selection(since=NOON.astimezone(timezone(timedelta(hours=5)))), True),
        (Selection(code="internal", collection="other"), False),
    ],
)
def test_a_selection_takes_what_fits_all_of_it(selection: Selection, takes: bool) -> None:
    assert selection.takes(letter()) is takes


def test_a_message_that_is_no_job_is_of_no_collection_and_no_document() -> None:
    bad = replace(letter(value=b"no job"), document_id="")
    assert Selection().takes(bad)
    assert not Selection(collection="manuals").takes(bad)
    assert not Selection(tenant="default").takes(bad)
    assert not Selection(ids=frozenset({""})).takes(bad)


def test_pacing_keeps_the_order_and_the_least_time_between() -> None:
    async def run() -> list[int]:
        return [item async for item in paced([1, 2, 3], per_second=20)]

    started = time.monotonic()
    assert anyio.run(run) == [1, 2, 3]
    assert time.monotonic() - started >= 2 / 20


# rendering


def test_control_characters_of_a_letter_do_not_reach_the_terminal() -> None:
    entry = DeadLetterEntry(letter(filename=f"{ESCAPE}a.pdf"), DeadLetterStatus.OPEN)
    history = [Event(NOON, "failed", 5, "w", f"{ESCAPE}detail")]
    for text in (shown(letter_table([entry])), shown(letter_report(entry, None, history))):
        assert "\x1b" not in text
        assert "a.pdf" in text


def test_the_report_shows_all_fields_of_a_letter() -> None:
    mark = LetterMark("d1-5-2", "replayed", "ann@host", "fixed", NOON)
    now = replace(document(), error=Failure("internal", "embed", "still"))
    text = shown(
        letter_report(
            DeadLetterEntry(letter(), DeadLetterStatus.REPLAYED, mark), now, [Event(NOON, "claimed", 1, "w1", "")]
        )
    )
    for told in (
        "d1-5-2",
        "replayed by ann@host at 2026-05-01T12:00:00+00:00: fixed",
        "received, 0 of 60 pages done: internal: still",
        "ingestion.errors.WorkerFault",
        "\n    indented",
        "jobs, partition 3, offset 17",
        "b'\\xff'",
        '"collection":"manuals"',
        "claimed",
    ):
        assert told in text


def test_bytes_that_are_no_text_are_base64_in_json() -> None:
    report = report_json(DeadLetterEntry(letter(value=b"\xff"), DeadLetterStatus.OPEN), None, [])
    assert report["value_base64"] == "/w=="
    assert (report["key"], report["filename"], report["document_state"]) == ("d1", None, None)
