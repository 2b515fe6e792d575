"""`pagemill collections list|archive|restore|drop|reembed`: work on whole collections.

The work is imported when a command runs, so that other commands start fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.commands.collections.reembed import reembed

app = typer.Typer(help="Collections: list, archive, restore, drop, reembed.", no_args_is_help=True)

_Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection, as `list` shows it.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON lines.")]
_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."),
]


@app.command("list")
def list_(as_json: _AsJson = False, data_dir: _DataDir = None) -> None:
    """List collections with their state, their contents and the time of their last use."""
    from workers.commands.collections.views import list_collections

    list_collections(as_json=as_json, data_dir=data_dir)


@app.command()
def archive(collection: _Collection, as_json: _AsJson = False, data_dir: _DataDir = None) -> None:
    """Pack a collection into the object store and free MongoDB and Milvus. `restore` brings it back unchanged.

    Refused while documents of the collection are in progress. If it was interrupted, run it again.
    """
    from workers.commands.collections.moves import archive_collection

    archive_collection(collection, as_json=as_json, data_dir=data_dir)


@app.command()
def restore(collection: _Collection, as_json: _AsJson = False, data_dir: _DataDir = None) -> None:
    """Bring an archived collection back, without embedding anything. If it was interrupted, run it again."""
    from workers.commands.collections.moves import restore_collection

    restore_collection(collection, as_json=as_json, data_dir=data_dir)


@app.command()
def drop(
    collection: _Collection,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Delete a collection with its documents, pages, images, vectors and archive. This cannot be undone."""
    from workers.commands.collections.moves import drop_collection

    drop_collection(collection, yes=yes, data_dir=data_dir)


app.command()(reembed)
