"""`pagemill collections reembed`: another embedder for a collection that is in use.

What the command does is imported when it runs, so that the other commands start without it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class EmbedderName(StrEnum):
    LOCAL = "local"
    COLQWEN = "colqwen"
    REMOTE = "remote"


def reembed(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection, as `list` shows it.")],
    embedder: Annotated[
        EmbedderName | None, typer.Option(help="What to embed with from now on, set up as for a worker.")
    ] = None,
    embedder_url: Annotated[
        str | None, typer.Option("--embedder-url", help="Of the embedding service, for --embedder remote.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only tell how far it has come.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Give up what was begun, and remove it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="The data directory of the stack; else ./.pagemill, or the settings."),
    ] = None,
) -> None:
    """Embed a collection again with another embedder, from its stored pages, while it is searched and filled.

    The old vectors serve until the new ones are complete, and are removed then. Cut off, it goes on when it is run
    again. Before, start an embedding service for the new model and add its address to PAGEMILL_EMBEDDER_URL of the
    API; afterwards, start workers that have the new embedder.
    """
    if sum((embedder is not None, status, abort)) != 1:
        raise typer.BadParameter("one of --embedder, --status and --abort is needed")
    from workers.commands.collections import reembedding

    if status:
        reembedding.show_status(collection, as_json=as_json, data_dir=data_dir)
    elif abort:
        reembedding.abort(collection, as_json=as_json, data_dir=data_dir)
    else:
        assert embedder is not None
        reembedding.run(collection, embedder.value, embedder_url, as_json=as_json, data_dir=data_dir)
