"""`pagemill dlq list|show|replay|discard`: the documents that came to nothing, and what to do about them.

What the commands do is imported when they run, so that the other commands start without it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from workers.commands.dlq.filters import Filters, StatusOption, parse_time

app = typer.Typer(help="Dead letters: documents that could not be ingested.", no_args_is_help=True)

_Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Letters or documents.")]
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
_All = Annotated[bool, typer.Option("--all", help="All open letters; needed where nothing else says which.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
_Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, kept with the letter.")]
_By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it; else your user name on this machine.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON lines.")]
_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The data directory of the stack to work on; else ./.pagemill, or the settings."),
]


@app.command("list")
def list_(
    ids: _Ids = None,
    state: Annotated[
        StatusOption | None, typer.Option(help="What has become of them; open ones where no ID is given.")
    ] = None,
    code: _Code = None,
    collection: _Collection = None,
    since: _Since = None,
    until: _Until = None,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """List dead letters, oldest first."""
    from workers.commands.dlq.actions import list_letters

    wanted = state or (StatusOption.ALL if ids else StatusOption.OPEN)
    list_letters(Filters(ids, code, collection, since, until), wanted, as_json=as_json, data_dir=data_dir)


@app.command()
def show(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Letters or documents.")],
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
    since: _Since = None,
    until: _Until = None,
    everything: _All = False,
    dry_run: _DryRun = False,
    rate: Annotated[float | None, typer.Option(help="Most letters per second; else as fast as it goes.")] = None,
    why: _Why = "",
    by: _By = "",
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Run the documents of open dead letters again. Each runs once, however often it is asked for."""
    from workers.commands.dlq.actions import DeadLetterAction, act

    filters = _checked(Filters(ids, code, collection, since, until), everything)
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
    since: _Since = None,
    until: _Until = None,
    everything: _All = False,
    dry_run: _DryRun = False,
    why: _Why = "",
    by: _By = "",
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Mark open dead letters as dealt with. Their documents stay failed."""
    from workers.commands.dlq.actions import DeadLetterAction, act

    filters = _checked(Filters(ids, code, collection, since, until), everything)
    if not act(DeadLetterAction.DISCARD, filters, by, why, dry_run=dry_run, as_json=as_json, data_dir=data_dir):
        raise typer.Exit(1)


def _checked(filters: Filters, everything: bool) -> Filters:
    """Nobody should do something about all letters by forgetting to say about which."""
    if not filters and not everything:
        raise typer.BadParameter(
            "say which letters: by ID, --code, --collection, --since or --until, or --all of them"
        )
    return filters
