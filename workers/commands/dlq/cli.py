"""`pagemill dlq list|show|replay|discard`: documents that could not be ingested.

The work is imported when a command runs, so that other commands start fast.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from workers.commands.dlq.filters import Filters, StatusOption, parse_time
from workers.commands.tenant_option import TenantOption, qualified

app = typer.Typer(help="Dead letters: documents that could not be ingested.", no_args_is_help=True)

_Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of letters or documents.")]
_Code = Annotated[str | None, typer.Option("--code", help="Only letters with this error code.")]
_Collection = Annotated[str | None, typer.Option("--collection", "-c", help="Only documents of this collection.")]
_Since = Annotated[
    datetime | None,
    typer.Option(
        "--since", parser=parse_time, metavar="TIME", help="Not before: 2026-05-01T12:00 (UTC), or 2h, 3d ago."
    ),
]
_Until = Annotated[
    datetime | None, typer.Option("--until", parser=parse_time, metavar="TIME", help="Before that time.")
]
_All = Annotated[bool, typer.Option("--all", help="All open letters. Required where no other filter is given.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
_Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason. It is stored with the letter.")]
_By = Annotated[str, typer.Option("--by", metavar="NAME", help="Your name. Default: your user name and this host.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON lines.")]
_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."),
]


@app.command("list")
def list_(
    ids: _Ids = None,
    state: Annotated[
        StatusOption | None,
        typer.Option(help="Only letters in this state. Default: open where no ID is given, else all."),
    ] = None,
    code: _Code = None,
    collection: _Collection = None,
    tenant: TenantOption = None,
    since: _Since = None,
    until: _Until = None,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """List dead letters, oldest first."""
    from workers.commands.dlq.actions import list_letters

    wanted = state or (StatusOption.ALL if ids else StatusOption.OPEN)
    list_letters(_filters(ids, code, collection, tenant, since, until), wanted, as_json=as_json, data_dir=data_dir)


@app.command()
def show(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of letters or documents.")],
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Show everything about a dead letter: the cause, the message, and the history of its document."""
    from workers.commands.dlq.actions import show_letters

    show_letters(Filters(ids), as_json=as_json, data_dir=data_dir)


@app.command()
def replay(
    ids: _Ids = None,
    code: _Code = None,
    collection: _Collection = None,
    tenant: TenantOption = None,
    since: _Since = None,
    until: _Until = None,
    everything: _All = False,
    dry_run: _DryRun = False,
    rate: Annotated[
        float | None, typer.Option(help="At most this many letters per second. Default: no limit.")
    ] = None,
    why: _Why = "",
    by: _By = "",
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Process the documents of open dead letters again. A letter is replayed once, also if asked for twice."""
    from workers.commands.dlq.actions import DeadLetterAction, act

    filters = _checked(_filters(ids, code, collection, tenant, since, until), everything)
    if rate is not None and not rate > 0:
        raise typer.BadParameter("it must be above 0", param_hint="--rate")
    if not act(
        DeadLetterAction.REPLAY, filters, by, why, dry_run=dry_run, rate=rate, as_json=as_json, data_dir=data_dir
    ):
        raise typer.Exit(1)


@app.command()
def discard(
    ids: _Ids = None,
    code: _Code = None,
    collection: _Collection = None,
    tenant: TenantOption = None,
    since: _Since = None,
    until: _Until = None,
    everything: _All = False,
    dry_run: _DryRun = False,
    why: _Why = "",
    by: _By = "",
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Mark open dead letters as discarded. Their documents stay failed."""
    from workers.commands.dlq.actions import DeadLetterAction, act

    filters = _checked(_filters(ids, code, collection, tenant, since, until), everything)
    if not act(DeadLetterAction.DISCARD, filters, by, why, dry_run=dry_run, as_json=as_json, data_dir=data_dir):
        raise typer.Exit(1)


def _filters(
    ids: list[str] | None,
    code: str | None,
    collection: str | None,
    tenant: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Filters:
    named = None if collection is None else qualified(tenant, collection)
    return Filters(ids, code, named, since, until, tenant)


def _checked(filters: Filters, everything: bool) -> Filters:
    """Raises BadParameter where nothing selects letters: a missing filter must not select all of them."""
    if not filters and not everything:
        raise typer.BadParameter(
            "say which letters: by ID, --code, --collection, --tenant, --since or --until, or --all of them"
        )
    return filters
