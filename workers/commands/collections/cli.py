"""`pagemill collections list|archive|restore|drop|reembed`: work on whole collections.

The work is imported when a command runs, so that other commands start fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.commands.collections.reembed import reembed
from workers.commands.tenant_option import TenantOption, qualified

app = typer.Typer(help="Collections: list, archive, restore, drop, reembed.", no_args_is_help=True)

_Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection, as `list` shows it.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON lines.")]
_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."),
]


@app.command("list")
def list_(tenant: TenantOption = None, as_json: _AsJson = False, data_dir: _DataDir = None) -> None:
    """List collections with their state, their contents and the time of their last use."""
    from workers.commands.collections.views import list_collections

    list_collections(tenant, as_json=as_json, data_dir=data_dir)


@app.command()
def archive(
    collection: _Collection,
    tenant: TenantOption = None,
    to: Annotated[
        str, typer.Option("--to", metavar="s3://BUCKET/PREFIX", help="Write a backup there. Needs --keep.")
    ] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the collection in use. Its ready documents are copied.")
    ] = False,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Pack a collection into the object store and free MongoDB and Milvus. `restore` brings it back unchanged.

    Refused while documents of the collection are in progress. If it was interrupted, run it again.

    With --to and --keep: write a backup into another bucket, with all that a system without this collection needs to
    restore it, while uploads and searches go on.
    """
    from workers.commands.collections.backups import back_up_collection
    from workers.commands.collections.moves import archive_collection

    collection = qualified(tenant, collection)
    if to or keep:
        back_up_collection(collection, to=to, keep=keep, as_json=as_json, data_dir=data_dir)
        return
    archive_collection(collection, as_json=as_json, data_dir=data_dir)


@app.command()
def restore(
    collection: _Collection,
    tenant: TenantOption = None,
    from_: Annotated[
        str,
        typer.Option("--from", metavar="s3://BUCKET/PREFIX", help="Restore a backup that is there, see archive --to."),
    ] = "",
    backup: Annotated[
        str, typer.Option("--backup", metavar="ID", help="With --from: this backup. Default: the latest.")
    ] = "",
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Bring an archived collection back, without embedding anything. If it was interrupted, run it again.

    With --from: restore a backup on a system that does not have the collection.
    """
    from workers.commands.collections.backups import restore_backup
    from workers.commands.collections.moves import restore_collection

    collection = qualified(tenant, collection)
    if from_ or backup:
        restore_backup(collection, from_=from_, backup_id=backup, as_json=as_json, data_dir=data_dir)
        return
    restore_collection(collection, as_json=as_json, data_dir=data_dir)


@app.command()
def drop(
    collection: _Collection,
    tenant: TenantOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Delete a collection with its documents, pages, images, vectors and archive. This cannot be undone."""
    from workers.commands.collections.moves import drop_collection

    drop_collection(qualified(tenant, collection), yes=yes, data_dir=data_dir)


app.command()(reembed)
