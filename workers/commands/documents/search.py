"""`pagemill search`: the pages that answer a question."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

import anyio
import typer
from rich import box
from rich.table import Table

from ingestion.client.client import connect
from ingestion.effort import Effort
from ingestion.hits import Hit, SearchResult
from ingestion.search_mode import SearchMode
from workers.commands.documents.target import find_target
from workers.commands.terminal import cell, plain, say, stdout, write_json_line

_SNIPPET_CHARS: Final = 160


def search_pages(
    query: str,
    collection: str,
    *,
    top_k: int,
    effort: Effort,
    mode: SearchMode | None,
    where: str | None,
    images: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Raises BadRequest, ApiError, DependencyUnavailable."""
    found = anyio.run(_search, collection, query, top_k, effort, mode, where, data_dir)
    hits = found.hits
    for note in found.notes:
        typer.echo(f"note: {plain(note)}", err=True)
    if as_json:
        for rank, hit in enumerate(hits, start=1):
            write_json_line({"rank": rank, **hit.model_dump()})
    elif hits:
        _show(hits, images=images)
    else:
        say(f"nothing found in collection {collection}")


async def _search(
    collection: str,
    query: str,
    top_k: int,
    effort: Effort,
    mode: SearchMode | None,
    where: str | None,
    data_dir: Path | None,
) -> SearchResult:
    async with connect(find_target(data_dir)) as api:
        return await api.answer(collection, query, top_k, effort, mode, where=where, with_metadata=True)


def _show(hits: list[Hit], *, images: bool) -> None:
    stdout().print(hit_table(hits))
    if images:
        for rank, hit in enumerate(hits, start=1):
            say(f"{rank}", hit.image_url or "no image")


def hit_table(hits: list[Hit]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("#", justify="right")
    table.add_column("score", justify="right")
    table.add_column("document", overflow="fold", max_width=32)
    table.add_column("page", justify="right")
    table.add_column("snippet", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        snippet = textwrap.shorten(plain(hit.snippet), _SNIPPET_CHARS, placeholder=" …")
        table.add_row(str(rank), f"{hit.score:.4g}", cell(hit.filename, "bold"), str(hit.page), cell(snippet))
    return table
