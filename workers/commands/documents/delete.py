"""`pagemill delete`: remove documents from every store."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import typer

from ingestion.client.client import ApiClient, ApiError, connect
from ingestion.client.views import DocumentView
from ingestion.errors import BadRequest
from workers.commands.documents.target import find_target
from workers.commands.terminal import cell, say


def delete_documents(document_ids: list[str], *, yes: bool, data_dir: Path | None) -> bool:
    """True where every document was found and is gone. Raises BadRequest, ApiError, DependencyUnavailable."""
    if not yes and not sys.stdin.isatty():
        raise BadRequest("standard input is no terminal: use --yes to delete without confirmation")
    return anyio.run(_delete, document_ids, yes, data_dir)


async def _delete(document_ids: list[str], yes: bool, data_dir: Path | None) -> bool:
    async with connect(find_target(data_dir)) as api:
        found = [view for id_ in dict.fromkeys(document_ids) if (view := await _find(api, id_))]
        if found and not yes:
            for view in found:
                say("delete", view.filename, "from", view.collection)
            typer.confirm(f"{len(found)} document(s), for good?", abort=True)
        for view in found:
            await api.delete(view.document_id)
            say("deleted", view.filename, cell(view.document_id, "dim"))
        return len(found) == len(set(document_ids))


async def _find(api: ApiClient, document_id: str) -> DocumentView | None:
    try:
        return await api.document(document_id)
    except ApiError as error:
        if error.code != "not_found":
            raise
        say(cell(f"no document {document_id}", "red"))
        return None
