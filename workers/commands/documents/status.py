"""`pagemill status`: one document in detail, or all of them in a table."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import anyio
from rich import box
from rich.table import Table
from rich.text import Text

from ingestion.client.client import connect
from ingestion.client.views import DocumentView
from workers.commands.documents.target import find_target
from workers.commands.terminal import add_text_column, cell, say, stdout, write_json_line


def show_status(
    document_id: str | None, collection: str | None, where: str | None, *, as_json: bool, data_dir: Path | None
) -> None:
    """Raises ApiError, DependencyUnavailable."""
    if where is not None and collection is None:
        collection = "default"
    documents = anyio.run(_read, document_id, collection, where, data_dir)
    if as_json:
        for document in documents:
            write_json_line(document.model_dump(mode="json"))
    elif document_id is not None:
        stdout().print(_details(documents[0]))
    elif documents:
        stdout().print(_table(documents))
        counts = Counter(document.state.value for document in documents)
        say(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
        if unsearchable := sum(document.text_pages.unsearchable for document in documents if document.text_pages):
            say(f"no search finds {unsearchable} page(s), which have no text: see `pagemill status ID`")
    else:
        say("no documents" if collection is None else f"no documents in collection {collection}")


async def _read(
    document_id: str | None, collection: str | None, where: str | None, data_dir: Path | None
) -> list[DocumentView]:
    async with connect(find_target(data_dir)) as api:
        if document_id is not None:
            return [await api.document(document_id)]
        return [document async for document in api.documents(collection, where)]


def _details(document: DocumentView) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("document", cell(document.document_id))
    table.add_row("file", cell(document.filename))
    table.add_row("collection", cell(document.collection))
    table.add_row("state", cell(document.state.value))
    table.add_row("pages done", f"{document.pages_done} of {document.pages}")
    table.add_row("attempts", str(document.attempts))
    if document.media_type:
        table.add_row("type", cell(document.media_type))
    labels = {
        "key": document.key,
        "tags": ", ".join(document.tags),
        "metadata": ", ".join(f"{key}={json.dumps(value)}" for key, value in document.metadata.items()),
        "replaced by": document.replaced_by,
        "duplicate of": document.duplicate_of,
    }
    for name, shown in labels.items():
        if shown:
            table.add_row(name, cell(shown))
    if (counts := document.text_pages) is not None:
        table.add_row("text", f"{counts.file} pages from the file, {counts.ocr} from OCR, {counts.none} without")
    for warning in document.warnings:
        table.add_row("warning", cell(warning))
    if document.error:
        table.add_row("error", cell(document.error.code))
        table.add_row("stage", cell(document.error.stage))
        table.add_row("cause", cell(document.error.message))
    return table


def _table(documents: list[DocumentView]) -> Table:
    """Readable at 80 columns. The id is whole, below the name: other commands take it."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("document", width=32, overflow="fold")
    add_text_column(table, "collection", 10)
    table.add_column("state", no_wrap=True)
    table.add_column("pages", justify="right", no_wrap=True)
    add_text_column(table, "error", 10)
    for document in documents:
        table.add_row(
            Text("\n").join([cell(document.filename), cell(document.document_id, "dim")]),
            cell(document.collection),
            cell(document.state.value),
            f"{document.pages_done}/{document.pages}",
            cell(document.error.code if document.error else ""),
        )
    return table
