"""`pagemill collections list|archive|restore|drop|reembed`: what becomes of whole collections.

What the commands do is imported when they run, so that the other commands start without it.
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
    typer.Option("--data-dir", help="The data directory of the stack; else ./.pagemill, or the settings."),
]


@app.command("list")
def list_(as_json: _AsJson = False, data_dir: _DataDir = None) -> None:
    """List collections: their state, what they hold, and when they were last used."""
    from workers.commands.collections.views import list_collections

    list_collections(as_json=as_json, data_dir=data_dir)


@app.command()
def archive(collection: _Collection, as_json: _AsJson = False, data_dir: _DataDir = None) -> None:
    """Pack a collection into the object store and free MongoDB and Milvus. `restore` brings it back as it was.

    It is refused while documents of the collection are in progress. Cut off, it may be repeated.
    """
    from workers.commands.collections.moves import archive_collection

    archive_collection(collection, as_json=as_json, data_dir=data_dir)


@app.command()
def restore(collection: _Collection, as_json: _AsJson = False, data_dir: _DataDir = None) -> None:
    """Bring an archived collection back, without embedding anything. Cut off, it may be repeated."""
    from workers.commands.collections.moves import restore_collection

    restore_collection(collection, as_json=as_json, data_dir=data_dir)


@app.command()
def drop(
    collection: _Collection,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Delete a collection for good: its documents, pages, images and vectors, and its archive."""
    from workers.commands.collections.moves import drop_collection

    drop_collection(collection, yes=yes, data_dir=data_dir)


app.command()(reembed)
