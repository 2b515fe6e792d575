"""Tables of the command line at 80 columns: no line is longer, and no column is broken into a few letters."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from ingestion.client.views import DocumentError, DocumentView
from ingestion.dead_letters import DeadLetter, of_document
from ingestion.messages import Record, encode_job
from ingestion.model import Document, DocumentState, Failure, IngestJob
from ingestion.replay.entries import DeadLetterEntry, DeadLetterStatus
from workers.commands.collections.views import ListedCollection
from workers.commands.collections.views import _table as collection_table
from workers.commands.dlq.views import letter_table
from workers.commands.documents.status import _table as document_table

WIDTH = 80
NOW = datetime(2026, 11, 28, 19, 5, tzinfo=UTC)
ID = "4d3592561f0a4b7c8d9e0f1a2b3c4d5e"
NAME = "quarterly-report-of-the-harbour-2026.pdf"
COLLECTION = "manuals-of-the-workshop"

DOCUMENT = DocumentView(
    document_id=ID, filename=NAME, state=DocumentState.PROCESSING, collection=COLLECTION, pages=10_000,
    pages_done=9_999, error=DocumentError(code="dependency_unavailable", message=""),
)  # fmt: skip
LISTED = ListedCollection(
    COLLECTION, "active", {"ready": 12_345, "failed": 3}, 1_234_567, 9_876_543_210,
    "colqwen2/vidore/colqwen2-v1.0@abc/nf4/tokens-768/pool-1", NOW, 987_654_321_000,
)  # fmt: skip


def letter() -> DeadLetter:
    key, value, headers = encode_job(IngestJob(ID, COLLECTION, NAME))
    document = Document(
        ID, COLLECTION, NAME, "k", "0" * 64, 1, pages=1, first_page_key=2**45, fence=2**46,
        error=Failure("dependency_unavailable", "store", "no answer"),
    )  # fmt: skip
    return replace(of_document(document, Record(("jobs", 1), 2, key, value, tuple(headers)), "g", None), timestamp=NOW)


def lines_of(table: Any) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=WIDTH).print(table)
    return screen.getvalue().splitlines()


@pytest.mark.parametrize(
    ("table", "whole"),
    [
        (document_table([DOCUMENT]), [ID, "processing", "9999/10000"]),
        (letter_table([DeadLetterEntry(letter(), DeadLetterStatus.OPEN)]), [ID, "dependency_", "11-28 19:05", "open"]),
        (collection_table([LISTED]), ["active", "1,234,567", "2026-11-28", "12345 ready"]),
    ],
    ids=["status", "dlq list", "collections list"],
)
def test_a_table_can_be_read_at_80_columns(table: Any, whole: list[str]) -> None:
    lines = lines_of(table)
    assert max(map(len, lines)) <= WIDTH
    for text in whole:
        assert any(text in line for line in lines), (text, lines)
    assert len(lines) <= 8, "\n".join(lines)
