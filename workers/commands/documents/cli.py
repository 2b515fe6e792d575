"""`pagemill ingest|search|status|delete`: the commands that talk to a running Pagemill over its HTTP API.

The work is imported when a command runs, so that other commands start without an HTTP client.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingestion.effort import Effort
from ingestion.search_mode import SearchMode

_Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection of documents.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON lines.")]
_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."),
]


def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders or globs.")],
    collection: _Collection = "default",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every document is ready or has failed.")] = False,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Upload PDFs, pictures, office files or texts to a collection.

    Exit status 0 only if all were accepted and, with --wait, became ready.
    """
    from workers.commands.documents.ingest import ingest_paths

    if not ingest_paths(paths, collection, wait=wait, as_json=as_json, data_dir=data_dir):
        raise typer.Exit(1)


def search(
    query: Annotated[str, typer.Argument(help="The question.")],
    collection: _Collection = "default",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="The number of hits to show.")] = 5,
    effort: Annotated[
        Effort, typer.Option("--effort", help="exhaustive: score every page of the collection exactly.")
    ] = Effort.BALANCED,
    mode: Annotated[
        SearchMode | None,
        typer.Option(
            "--mode",
            help="lexical: by words; semantic: by meaning; hybrid: both. Default: that of the API's settings.",
        ),
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Show the addresses of the page images too.")] = False,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Find the pages that answer a question, best first. No hit is no error."""
    from workers.commands.documents.search import search_pages

    search_pages(
        query,
        collection,
        top_k=top_k,
        effort=effort,
        mode=mode,
        images=images,
        as_json=as_json,
        data_dir=data_dir,
    )


def status(
    document_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A document. Default: all documents.")
    ] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection.")] = None,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Show the state of documents."""
    from workers.commands.documents.status import show_status

    show_status(document_id, collection, as_json=as_json, data_dir=data_dir)


def delete(
    document_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The documents, as `status` shows them.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Delete documents with their pages, images and vectors."""
    from workers.commands.documents.delete import delete_documents

    if not delete_documents(document_ids, yes=yes, data_dir=data_dir):
        raise typer.Exit(1)
