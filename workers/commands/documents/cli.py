"""`pagemill ingest|search|status|cancel|delete`: the commands that talk to a running Pagemill over its HTTP API.

The work is imported when a command runs, so that other commands start without an HTTP client.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingestion.effort import Effort
from ingestion.priority import Priority
from ingestion.search_mode import SearchMode

_Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection of documents.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON lines.")]
_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."),
]
_Filter = Annotated[
    str | None,
    typer.Option("--filter", help="Only documents for which it holds, as in: team = 'legal' and year >= 2020"),
]


def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders or globs.")],
    collection: _Collection = "default",
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Metadata of all files; a number, true or false is one."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of all files.")] = None,
    key: Annotated[
        str, typer.Option("--key", help="The file replaces the document with this key once it is ready.")
    ] = "",
    skip_duplicates: Annotated[
        bool, typer.Option("--skip-duplicates", help="Do not store a file whose bytes the collection has already.")
    ] = False,
    priority: Annotated[
        Priority | None,
        typer.Option("--priority", help="interactive: a person waits, so these files go before bulk. Default: bulk."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every document is ready or has failed.")] = False,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Upload PDFs, pictures, office files or texts to a collection.

    Exit status 0 only if all were accepted and, with --wait, became ready.
    """
    from workers.commands.documents.ingest import ingest_paths
    from workers.commands.documents.labels import labels_of

    labels = labels_of(meta or (), tag or (), key, skip_duplicates=skip_duplicates, priority=priority)
    if not ingest_paths(paths, collection, labels, wait=wait, as_json=as_json, data_dir=data_dir):
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
    where: _Filter = None,
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
        where=where,
        images=images,
        as_json=as_json,
        data_dir=data_dir,
    )


def status(
    document_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A document. Default: all documents.")
    ] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection.")] = None,
    where: _Filter = None,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Show the state of documents. With --filter, those of one collection: --collection, or `default`."""
    from workers.commands.documents.status import show_status

    show_status(document_id, collection, where, as_json=as_json, data_dir=data_dir)


def cancel(
    document_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The documents, as `status` shows them.")
    ] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="All unfinished documents of this collection.")
    ] = None,
    where: _Filter = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be cancelled, and cancel nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: _AsJson = False,
    data_dir: _DataDir = None,
) -> None:
    """Stop the work on documents and remove what it has written. Their files stay.

    By id, or the unfinished documents of a collection; with --filter, those of --collection, or `default`, for which
    it holds.
    """
    from workers.commands.documents.cancel import cancel_documents, cancel_matching, check_choice

    check_choice(document_ids or (), collection, where)
    if document_ids:
        is_done = cancel_documents(document_ids, dry_run=dry_run, yes=yes, as_json=as_json, data_dir=data_dir)
    else:
        name = collection or "default"
        is_done = cancel_matching(name, where, dry_run=dry_run, yes=yes, as_json=as_json, data_dir=data_dir)
    if not is_done:
        raise typer.Exit(1)


def delete(
    document_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The documents, as `status` shows them.")
    ] = None,
    collection: _Collection = "default",
    where: _Filter = None,
    key: Annotated[str, typer.Option("--key", help="All versions of the file with this key.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Delete documents with their pages, images and vectors: by id, or those of a collection by filter or key."""
    from workers.commands.documents.delete import delete_documents, delete_matching, filter_of

    selected = filter_of(document_ids or (), where, key)
    if selected is not None:
        delete_matching(collection, selected, dry_run=dry_run, yes=yes, data_dir=data_dir)
    elif not delete_documents(document_ids or [], dry_run=dry_run, yes=yes, data_dir=data_dir):
        raise typer.Exit(1)
