"""Dead letters as a table, as a report and as JSON.

File names, messages and headers come from strangers. `cell` removes their control characters.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingestion.dead_letters import DeadLetter
from ingestion.model import Document, Event
from ingestion.replay.entries import DeadLetterEntry
from workers.commands.terminal import add_text_column, cell


def letter_table(entries: Iterable[DeadLetterEntry]) -> Table:
    """One row for each letter, readable at 80 columns.

    The other commands take the id below the name of the file: that of the document, or that of the letter where the
    message names no document. `--json` has the ids of all letters.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("dead letter", width=32, overflow="fold")
    table.add_column("time (UTC)", no_wrap=True)
    add_text_column(table, "collection", 10)
    add_text_column(table, "error", 10)
    table.add_column("state", no_wrap=True)
    for entry in entries:
        letter = entry.letter
        filename, collection = _file_of(letter)
        table.add_row(
            Text("\n").join([cell(filename or "no file"), cell(letter.document_id or letter.id, "dim")]),
            f"{letter.timestamp:%m-%d %H:%M}" if letter.timestamp else "",
            cell(collection),
            cell(letter.failure.code),
            entry.status.value,
        )
    return table


def letter_line(letter: DeadLetter, words: str) -> Text:
    filename, _ = _file_of(letter)
    return Text(" ").join([cell(letter.id, "dim"), cell(filename), cell(letter.failure.code), cell(words, "bold")])


def letter_report(entry: DeadLetterEntry, document: Document | None, history: Sequence[Event]) -> Group:
    """Everything about a letter, for people."""
    letter = entry.letter
    parts: list[RenderableType] = [_facts(entry, document)]
    if history:
        parts += [_heading("history of the document"), _history(history)]
    parts += [_heading("message"), _message(letter)]
    parts += [
        _heading("stack trace"),
        _block(letter.stacktrace or "none: the writer of the letter did not see the error"),
    ]
    return Group(*parts)


def place_of(letter: DeadLetter) -> str:
    """Where the letter's record was first read."""
    origin = letter.origin
    return f"{origin.topic}, partition {origin.partition}, offset {origin.offset}"


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _facts(entry: DeadLetterEntry, document: Document | None) -> Table:
    letter, mark = entry.letter, entry.mark
    filename, collection = _file_of(letter)
    rows = {
        "letter": letter.id,
        "state": entry.status.value,
        "marked": f"{mark.action} by {mark.by} at {_time(mark.at)}: {mark.why or 'no reason given'}" if mark else "no",
        "document": letter.document_id or "none: the message is not a job",
        "file": filename,
        "collection": collection,
        "document now": _present(letter, document),
        "error": letter.failure.code,
        "stage": letter.failure.stage,
        "cause": letter.failure.message,
        "exception": letter.exception_class or "not known",
        "read from": place_of(letter),
        "record": f"cut: it has {letter.whole_bytes} bytes" if letter.is_cut else "whole",
        "group": letter.group,
        "deliveries": str(letter.delivery_count),
        "time": _time(letter.timestamp),
    }
    return _pairs((name, text) for name, text in rows.items())


def _present(letter: DeadLetter, document: Document | None) -> str:
    if document is None:
        return "deleted" if letter.document_id else ""
    why = f": {document.error.code}: {document.error.message}" if document.error else ""
    return f"{document.state.value}, {document.pages_done} of {document.pages} pages done{why}"


def _message(letter: DeadLetter) -> Table:
    headers = [(f"header {name}", _readable(content)) for name, content in letter.headers]
    return _pairs([*headers, ("key", _readable(letter.key)), ("value", _readable(letter.value))])


def _history(history: Iterable[Event]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("time", "event", "attempt", "worker", "detail"):
        table.add_column(column, overflow="fold")
    for event in history:
        table.add_row(_time(event.at), cell(event.event), str(event.attempt), cell(event.worker), cell(event.detail))
    return table


def letter_json(entry: DeadLetterEntry) -> dict[str, Any]:
    """A letter as `list` and the results show it."""
    letter, mark = entry.letter, entry.mark
    filename, collection = _file_of(letter)
    return {
        "letter": letter.id,
        "state": entry.status.value,
        "document_id": letter.document_id or None,
        "filename": filename or None,
        "collection": collection or None,
        "code": letter.failure.code,
        "stage": letter.failure.stage,
        "message": letter.failure.message,
        "time": _time(letter.timestamp),
        "mark": {"action": mark.action, "by": mark.by, "why": mark.why, "at": _time(mark.at)} if mark else None,
    }


def report_json(entry: DeadLetterEntry, document: Document | None, history: Iterable[Event]) -> dict[str, Any]:
    """Everything about a letter, for programs."""
    letter = entry.letter
    return {
        **letter_json(entry),
        "exception": letter.exception_class,
        "stacktrace": letter.stacktrace,
        "origin": {
            "topic": letter.origin.topic,
            "partition": letter.origin.partition,
            "offset": letter.origin.offset,
        },
        "group": letter.group,
        "delivery_count": letter.delivery_count,
        "whole_bytes": letter.whole_bytes if letter.is_cut else None,
        "headers": [{"name": name, **_named("value", content)} for name, content in letter.headers],
        **_named("key", letter.key),
        **_named("value", letter.value),
        "document_state": document.state.value if document else None,
        "history": [
            {
                "time": _time(event.at),
                "event": event.event,
                "attempt": event.attempt,
                "worker": event.worker,
                "detail": event.detail,
            }
            for event in history
        ],
    }


def _named(name: str, content: bytes | None) -> dict[str, str | None]:
    """Bytes in JSON: under `name` where they are UTF-8, else under `name`_base64."""
    try:
        return {name: None if content is None else content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content or b"").decode()}


def _readable(content: bytes | None) -> str:
    """Bytes for a person: the text they are, or else their representation in Python."""
    try:
        return "null" if content is None else content.decode()
    except UnicodeDecodeError:
        return repr(content)


def _file_of(letter: DeadLetter) -> tuple[str, str]:
    """File name and collection, both empty where the message is not a job."""
    job = letter.job
    return (job.filename, job.collection) if job else ("", "")


def _time(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds") if at else ""


def _block(text: str) -> Text:
    """Several lines, each made harmless with its indentation kept."""
    return Text("\n".join("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines()))


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(cell(name), cell(text))
    return table
