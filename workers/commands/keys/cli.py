"""`pagemill keys create|list|revoke`: API keys of tenants.

The work is imported when a command runs, so that other commands start fast.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ingestion.role import Role
from workers.commands.keys.expiry import parse_expiry

app = typer.Typer(help="API keys of tenants: create, list, revoke.", no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON lines.")]
_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."),
]


@app.command()
def create(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="The tenant of the key.")] = "default",
    role: Annotated[Role, typer.Option("--role", help="write includes read, and admin includes write.")] = Role.WRITE,
    name: Annotated[str, typer.Option("--name", help="What the key is for. `list` shows it.")] = "",
    expires: Annotated[
        datetime | None,
        typer.Option(
            "--expires",
            parser=parse_expiry,
            metavar="TIME",
            help="2027-05-01T12:00 (UTC), or 12h, 90d.",
        ),
    ] = None,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Create a key and print it. It is stored nowhere: it cannot be shown again."""
    from workers.commands.keys.actions import create_key

    create_key(tenant, role, name, expires, as_json=as_json, data_dir=data_dir)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only keys of this tenant.")] = None,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """List keys with their tenant, role, state and last use."""
    from workers.commands.keys.actions import list_keys

    list_keys(tenant, as_json=as_json, data_dir=data_dir)


@app.command()
def revoke(
    key_ids: Annotated[list[str], typer.Argument(metavar="KEY...", help="The ids of the keys, as `list` shows them.")],
    data_dir: _DataDir = None,
) -> None:
    """Revoke keys for good. Each API process refuses them after PAGEMILL_KEY_CACHE_S (10 s) at the latest."""
    from workers.commands.keys.actions import revoke_keys

    if not revoke_keys(key_ids, data_dir=data_dir):
        raise typer.Exit(1)
