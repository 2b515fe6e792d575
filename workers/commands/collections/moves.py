"""The work and the output of `pagemill collections archive|restore|drop`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import typer
from rich.filesize import decimal

from ingestion.bootstrap import Services
from ingestion.catalogue.states import Archive
from ingestion.errors import BadRequest, CollectionHeld, NotFound
from ingestion.model import check_qualified
from workers.backup.manifest import BackupTotals
from workers.commands.installation import open_installation
from workers.commands.terminal import say, write_json_line
from workers.wiring import archiver_of, remover_of

T = TypeVar("T")


def archive_collection(collection: str, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound, CollectionBusy, CollectionArchived, DependencyUnavailable."""
    archive = run_on(lambda services: archiver_of(services).archive(collection), collection, data_dir)
    tell("archived", collection, archive, as_json)


def restore_collection(collection: str, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound, Conflict, DependencyUnavailable."""
    archive = run_on(lambda services: archiver_of(services).restore(collection), collection, data_dir)
    tell("restored", collection, archive, as_json)


def drop_collection(collection: str, *, yes: bool, data_dir: Path | None) -> None:
    """Raises NotFound, BadRequest without --yes where standard input is no terminal, DependencyUnavailable."""
    check_qualified(collection)
    if not yes and not sys.stdin.isatty():
        raise BadRequest("standard input is no terminal: use --yes to drop without confirmation")

    async def drop(services: Services) -> None:
        is_bound = await services.documents.collection(collection) is not None
        if not is_bound and not await services.documents.list(collection, limit=1):
            raise NotFound(f"there is no collection {collection!r}")
        if not yes:
            typer.confirm(f"drop collection {collection} with all of its documents, for good?", abort=True)
        await remover_of(services).delete_collection(collection)

    run_on(drop, collection, data_dir)
    say("dropped", collection)


def run_on(work: Callable[[Services], Awaitable[T]], collection: str, data_dir: Path | None) -> T:
    """Repeat `work` until no other process holds the collection. Raises BadRequest for an impossible name."""
    check_qualified(collection)

    async def run() -> T:
        async with open_installation(data_dir) as services:
            return await _when_free(lambda: work(services))

    return anyio.run(run)


async def _when_free(work: Callable[[], Awaitable[T]]) -> T:
    """Repeat `work` until no other process holds the collection. The hold of a killed process expires."""
    while True:
        try:
            return await work()
        except CollectionHeld as held:
            typer.echo(f"waiting: {held.message}", err=True)
            await anyio.sleep(min(max(held.retry_in_s, 0.2), 5.0))


def tell(done: str, collection: str, archive: Archive | BackupTotals, as_json: bool, **more: str | int) -> None:
    """Write the outcome and the contents of an archive or a backup. `more` is part of the JSON only."""
    if as_json:
        write_json_line(
            {
                "collection": collection,
                "outcome": done,
                "documents": archive.documents,
                "pages": archive.pages,
                "rows": archive.rows,
                "size_bytes": archive.size_bytes,
                **more,
            }
        )
        return
    counts = f"{archive.documents} document(s), {archive.pages} page(s), {archive.rows} row(s)"
    say(done, f"{collection}:", f"{counts}, {decimal(archive.size_bytes)}")
