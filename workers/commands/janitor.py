"""`pagemill janitor`: one round of the janitor now, or, with --check, an audit that changes nothing.

The work is imported when the command runs, so that other commands start fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.commands.tenant_option import TenantOption, qualified


def janitor(
    check: Annotated[bool, typer.Option("--check", help="Compare the stores, and change nothing.")] = False,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection.")] = None,
    tenant: TenantOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."
        ),
    ] = None,
) -> None:
    """Finish work that a crash or an outage interrupted, and compare MongoDB, S3 and Milvus with each other.

    Exit status 1 if the stores do not match, a document could not be repaired, or a part of the stores could not be
    judged, for example because a record cannot be read. Objects without a record that are
    younger than PAGEMILL_JANITOR_ORPHAN_GRACE_S may belong to an upload in progress: they are counted, and the exit
    status stays 0.
    """
    from workers.commands.janitor_rounds import do_round

    if tenant is not None and collection is None:
        raise typer.BadParameter("it needs --collection", param_hint="--tenant")
    if collection is not None:
        collection = qualified(tenant, collection)
    if not do_round(check=check, collection=collection, as_json=as_json, data_dir=data_dir):
        raise typer.Exit(1)
