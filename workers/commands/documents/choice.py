"""Documents that a command changes: they are looked up, and the caller is asked first."""

from __future__ import annotations

import sys

from ingestion.client.answers import ApiError
from ingestion.client.client import ApiClient
from ingestion.client.views import DocumentView
from ingestion.errors import BadRequest
from workers.commands.terminal import cell, say, write_json_line


def require_answer(verb: str, *, may_ask: bool) -> None:
    """Raises BadRequest where the command has to ask and standard input is no terminal."""
    if may_ask and not sys.stdin.isatty():
        raise BadRequest(f"standard input is no terminal: use --yes to {verb} without confirmation")


async def find_document(api: ApiClient, document_id: str, *, as_json: bool = False) -> DocumentView | None:
    """None, and a line of output, where there is no such document."""
    try:
        return await api.document(document_id)
    except ApiError as error:
        if error.code != "not_found":
            raise
        if as_json:
            write_json_line({"document_id": document_id, "filename": None, "outcome": "there is no such document"})
        else:
            say(cell(f"no document {document_id}", "red"))
        return None
