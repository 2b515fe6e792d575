"""`pagemill collections reembed`: embed a collection that is in use with another embedder.

The work is imported when the command runs, so that other commands start fast.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from workers.commands.tenant_option import TenantOption, qualified


class EmbedderName(StrEnum):
    LOCAL = "local"
    VISUAL = "visual"
    COLQWEN = "colqwen"
    REMOTE = "remote"


def reembed(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection, as `list` shows it.")],
    tenant: TenantOption = None,
    embedder: Annotated[
        EmbedderName | None, typer.Option(help="The new embedder, configured as for a worker.")
    ] = None,
    embedder_url: Annotated[
        str | None, typer.Option("--embedder-url", help="Address of the embedding service, for --embedder remote.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show the progress, and change nothing.")] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Stop a re-embedding that was begun, and remove its vectors.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."
        ),
    ] = None,
) -> None:
    """Embed a collection again with another embedder, from its stored pages, while it is searched and filled.

    The old vectors serve until the new ones are complete; then they are removed. If it was interrupted, run it again:
    it continues. Before you begin, start an embedding service for the new model and add its address to
    PAGEMILL_EMBEDDER_URL of the API. Afterwards, start workers with the new embedder.
    """
    if sum((embedder is not None, status, abort)) != 1:
        raise typer.BadParameter("one of --embedder, --status and --abort is needed")
    from workers.commands.collections import reembedding

    collection = qualified(tenant, collection)
    if status:
        reembedding.show_status(collection, as_json=as_json, data_dir=data_dir)
    elif abort:
        reembedding.abort(collection, as_json=as_json, data_dir=data_dir)
    else:
        assert embedder is not None
        reembedding.run(collection, embedder.value, embedder_url, as_json=as_json, data_dir=data_dir)
