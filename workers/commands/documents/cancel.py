"""`pagemill cancel`: stop the work on documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
import typer

from ingestion.client.answers import ApiError
from ingestion.client.client import ApiClient, connect
from ingestion.client.views import DocumentView
from ingestion.errors import BadRequest
from ingestion.filters import parse_filter
from ingestion.model import CANCELLATION, UNFINISHED
from workers.commands.documents.choice import find_document, require_answer
from workers.commands.documents.target import find_target
from workers.commands.terminal import cell, say, write_json_line

_SHOWN: Final = 100
_IS_UNFINISHED: Final = "state in ({})".format(", ".join(f"'{state.value}'" for state in UNFINISHED))


def check_choice(document_ids: Sequence[str], collection: str | None, where: str | None) -> None:
    """Raises BadRequest where nothing, or more than one thing, says which documents are meant, and BadFilter."""
    if bool(document_ids) == (collection is not None or where is not None):
        raise BadRequest("name documents by their ids, or by --collection, or by --filter")
    if where is not None:
        parse_filter(where)


def cancel_documents(
    document_ids: list[str], *, dry_run: bool, yes: bool, as_json: bool, data_dir: Path | None
) -> bool:
    """True where every document is cancelled, or would be. Raises BadRequest, ApiError, DependencyUnavailable."""
    require_answer("cancel", may_ask=not yes and not dry_run)
    return anyio.run(_cancel_documents, document_ids, dry_run, yes, as_json, data_dir)


def cancel_matching(
    collection: str, where: str | None, *, dry_run: bool, yes: bool, as_json: bool, data_dir: Path | None
) -> bool:
    """True also where no document is in work. Raises BadRequest, ApiError, DependencyUnavailable."""
    require_answer("cancel", may_ask=not yes and not dry_run)
    anyio.run(_cancel_matching, collection, where, dry_run, yes, as_json, data_dir)
    return True


async def _cancel_documents(
    document_ids: list[str], dry_run: bool, yes: bool, as_json: bool, data_dir: Path | None
) -> bool:
    async with connect(find_target(data_dir)) as api:
        ids = dict.fromkeys(document_ids)
        found = [view for id_ in ids if (view := await find_document(api, id_, as_json=as_json))]
        if dry_run or not yes:
            for view in found:
                _tell(view, f"would be cancelled: {view.state.value}" if _is_open(view) else _refusal(view), as_json)
        if found and not dry_run and not yes:
            typer.confirm(f"cancel {len(found)} document(s)?", abort=True)
        done = [_is_open(view) if dry_run else await _cancel(api, view, as_json) for view in found]
        return all(done) and len(found) == len(ids)


async def _cancel(api: ApiClient, view: DocumentView, as_json: bool) -> bool:
    try:
        after = await api.cancel(view.document_id)
    except ApiError as error:
        if error.code != "conflict":
            raise
        _tell(view, error.message, as_json)
        return False
    _tell(after, after.state.value, as_json)
    return True


async def _cancel_matching(
    collection: str, where: str | None, dry_run: bool, yes: bool, as_json: bool, data_dir: Path | None
) -> None:
    async with connect(find_target(data_dir)) as api:
        if dry_run or not yes:
            count = await _show_unfinished(api, collection, where, as_json)
            if dry_run or not count:
                if not as_json:
                    say(f"{count} document(s) of collection {collection} in work")
                return
            typer.confirm(f"cancel {count} document(s)?", abort=True)
        result = await api.cancel_collection(collection, where)
        if as_json:
            write_json_line({"collection": collection, **result.model_dump()})
            return
        say(f"cancelled {result.cancelled} document(s) of collection {collection}")
        if result.cancelling:
            say(f"work on {result.cancelling} more has stopped; the janitor removes what it has written")


async def _show_unfinished(api: ApiClient, collection: str, where: str | None, as_json: bool) -> int:
    """Show the first documents that would be cancelled, and count them all."""
    wanted = _IS_UNFINISHED if where is None else f"({where}) and {_IS_UNFINISHED}"
    count = 0
    async for view in api.documents(collection, wanted):
        count += 1
        if count <= _SHOWN:
            _tell(view, f"would be cancelled: {view.state.value}", as_json)
    if count > _SHOWN and not as_json:
        say(f"and {count - _SHOWN} more")
    return count


def _is_open(view: DocumentView) -> bool:
    return view.state in UNFINISHED or view.state in CANCELLATION


def _refusal(view: DocumentView) -> str:
    return f"is {view.state.value}: there is no work to cancel"


def _tell(view: DocumentView, outcome: str, as_json: bool) -> None:
    if as_json:
        write_json_line({"document_id": view.document_id, "filename": view.filename, "outcome": outcome})
    else:
        say(view.filename, cell(view.document_id, "dim"), outcome)
