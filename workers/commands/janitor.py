"""`pagemill janitor`: one round of the janitor now, or, with --check, an audit that changes nothing.

What the command does is imported when it runs, so that the other commands start without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def janitor(
    check: Annotated[bool, typer.Option("--check", help="Only compare the stores; change nothing.")] = False,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="The data directory of the stack; else ./.pagemill, or the settings."),
    ] = None,
) -> None:
    """Finish what crashes and outages left half done, and compare MongoDB, S3 and Milvus with each other.

    Exit status 1 where the stores do not match, or a document could not be put right. Objects without a record that
    are younger than PAGEMILL_JANITOR_ORPHAN_GRACE_S cannot be told from an upload under way: they are counted, and the
    exit status stays 0.
    """
    from workers.commands.janitor_rounds import do_round

    if not do_round(check=check, collection=collection, as_json=as_json, data_dir=data_dir):
        raise typer.Exit(1)
