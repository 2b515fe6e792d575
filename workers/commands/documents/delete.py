"""`pagemill delete`: remove documents from every store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio
import typer

from ingestion.client.client import connect
from ingestion.errors import BadRequest
from ingestion.filters import filter_text
from ingestion.filters.expression import Among, Name
from workers.commands.documents.choice import find_document, require_answer
from workers.commands.documents.target import find_target
from workers.commands.terminal import cell, say


def filter_of(document_ids: Sequence[str], where: str | None, key: str) -> str | None:
    """The filter of --filter or --key; None for a delete by ids. Raises BadRequest where the choice is not clear."""
    given = [name for name, value in (("ids", document_ids), ("--filter", where), ("--key", key)) if value]
    if len(given) != 1:
        raise BadRequest("name documents by their ids, or by --filter, or by --key")
    return filter_text(Among(Name("key"), (key,))) if key else where


def delete_matching(collection: str, where: str, *, dry_run: bool, yes: bool, data_dir: Path | None) -> None:
    """Raises BadRequest, ApiError, DependencyUnavailable."""
    require_answer("delete", may_ask=not yes and not dry_run)
    anyio.run(_delete_matching, collection, where, dry_run, yes, data_dir)


def delete_documents(document_ids: list[str], *, dry_run: bool, yes: bool, data_dir: Path | None) -> bool:
    """True where every document was found and is gone. Raises BadRequest, ApiError, DependencyUnavailable."""
    require_answer("delete", may_ask=not yes and not dry_run)
    return anyio.run(_delete, document_ids, dry_run, yes, data_dir)


async def _delete_matching(collection: str, where: str, dry_run: bool, yes: bool, data_dir: Path | None) -> None:
    async with connect(find_target(data_dir)) as api:
        found = await api.delete_matching(collection, where, dry_run=True)
        for document_id in found.document_ids:
            say("would delete" if dry_run else "delete", cell(document_id, "dim"))
        if found.count > len(found.document_ids):
            say(f"and {found.count - len(found.document_ids)} more")
        if dry_run or not found.count:
            say(f"{found.count} document(s) of collection {collection}")
            return
        if not yes:
            typer.confirm(f"{found.count} document(s), for good?", abort=True)
        deleted = 0
        while True:
            result = await api.delete_matching(collection, where)
            deleted += result.deleted
            if not result.remaining or not result.deleted:
                break
        say(f"deleted {deleted} document(s) of collection {collection}")


async def _delete(document_ids: list[str], dry_run: bool, yes: bool, data_dir: Path | None) -> bool:
    async with connect(find_target(data_dir)) as api:
        found = [view for id_ in dict.fromkeys(document_ids) if (view := await find_document(api, id_))]
        if found and (dry_run or not yes):
            for view in found:
                say("would delete" if dry_run else "delete", view.filename, "from", view.collection)
        if found and not yes and not dry_run:
            typer.confirm(f"{len(found)} document(s), for good?", abort=True)
        for view in () if dry_run else found:
            await api.delete(view.document_id)
            say("deleted", view.filename, cell(view.document_id, "dim"))
        return len(found) == len(set(document_ids))
