"""The output of `pagemill collections list`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import anyio
from rich import box
from rich.filesize import decimal
from rich.table import Table

from ingestion.bootstrap import Services
from ingestion.catalogue.states import CollectionRecord, CollectionState, CollectionTotals
from ingestion.model import check_tenant, tenant_of
from workers.commands.installation import open_installation
from workers.commands.terminal import add_text_column, cell, say, shortened, stdout, write_json_line

_EMBEDDER_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class ListedCollection:
    """A collection as it is collections. `size_bytes` are those of its uploads, or of its archive."""

    name: str
    state: str
    documents: dict[str, int]
    pages: int
    rows: int
    embedder: str
    last_used_at: datetime | None
    size_bytes: int


def list_collections(tenant: str | None, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises BadRequest, DependencyUnavailable."""
    collections = anyio.run(_read, None if tenant is None else check_tenant(tenant), data_dir)
    if as_json:
        for collection in collections:
            write_json_line(_as_json(collection))
    elif collections:
        stdout().print(_table(collections))
    else:
        say("no collections")


async def _read(tenant: str | None, data_dir: Path | None) -> list[ListedCollection]:
    async with open_installation(data_dir) as services:
        records = {record.name: record for record in await services.documents.collection_records()}
        totals = await services.documents.collection_totals()
        return [
            await _listed(services, name, records.get(name), totals.get(name, CollectionTotals()))
            for name in sorted({*records, *totals})
            if tenant in (None, tenant_of(name))
        ]


async def _listed(
    services: Services, name: str, record: CollectionRecord | None, totals: CollectionTotals
) -> ListedCollection:
    state = record.state if record else CollectionState.ACTIVE
    documents = dict(sorted(totals.documents.items()))
    pages, rows, size_bytes = totals.pages, 0, totals.source_bytes
    if record and record.archive and state is CollectionState.ARCHIVED:
        archive = record.archive
        documents = {**documents, "archived": archive.documents}
        pages, rows, size_bytes = pages + archive.pages, archive.rows, archive.size_bytes
    elif record:
        rows = await services.vectors.count(name)
    return ListedCollection(
        name=name,
        state=state.shown,
        documents=documents,
        pages=pages,
        rows=rows,
        embedder=record.embedder if record else "",
        last_used_at=record.last_used_at if record else None,
        size_bytes=size_bytes,
    )


def _as_json(collection: ListedCollection) -> dict[str, Any]:
    return {
        "collection": collection.name,
        "tenant": tenant_of(collection.name),
        "state": collection.state,
        "documents": collection.documents,
        "pages": collection.pages,
        "rows": collection.rows,
        "embedder": collection.embedder,
        "last_used_at": collection.last_used_at.isoformat() if collection.last_used_at else None,
        "size_bytes": collection.size_bytes,
    }


def _table(collections: list[ListedCollection]) -> Table:
    """Readable at 80 columns. `--json` has embedders whole, and the number of rows."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    add_text_column(table, "collection", 12)  # shown whole, since it is what the other commands take
    table.add_column("state", no_wrap=True)
    add_text_column(table, "documents", 9)
    for column in ("pages", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("embedder", no_wrap=True)
    table.add_column("used (UTC)", no_wrap=True)
    for collection in collections:
        table.add_row(
            cell(collection.name),
            cell(collection.state, "" if collection.state == CollectionState.ACTIVE else "yellow"),
            cell(", ".join(f"{count} {state}" for state, count in collection.documents.items()) or "none"),
            f"{collection.pages:,}",
            decimal(collection.size_bytes),
            cell(shortened(collection.embedder, _EMBEDDER_CHARS)),
            f"{collection.last_used_at:%Y-%m-%d}" if collection.last_used_at else "",
        )
    return table
