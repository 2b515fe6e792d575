"""The command `pagemill mcp`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingestion.errors import BadRequest


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP at /mcp in place of stdio.")] = False,
    host: Annotated[str, typer.Option(help="With --http: the address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="With --http: the port.")] = 8092,
    allow: Annotated[
        list[Path] | None,
        typer.Option("--allow", help="A folder whose files an agent may ingest. May be repeated; stdio only."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or the settings."),
    ] = None,
) -> None:
    """Offer search, pages, documents and uploads to agents (Model Context Protocol).

    Over stdio the server uses the API key of the stack or the settings. Over HTTP each request needs an API key of
    its own, which the server passes on.
    """
    try:
        from workers.commands.mcp.serving import serve_http, serve_stdio
    except ModuleNotFoundError as error:
        raise BadRequest(f"`pagemill mcp` needs {error.name}: pip install 'pagemill[mcp]'") from error
    if http:
        if allow:
            raise typer.BadParameter("--allow is for stdio: over HTTP an agent's files are on another machine")
        serve_http(host, port, data_dir)
    else:
        serve_stdio(allow or [], data_dir)
