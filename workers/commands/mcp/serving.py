"""Serves the tools over stdio or over streamable HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingestion.api.problems import problem
from ingestion.client.client import ApiClient, connect
from ingestion.client.target import Target
from ingestion.http.server import HttpServer
from ingestion.settings import HttpSettings
from workers.commands.documents.target import find_target
from workers.commands.mcp.folders import AllowedFolders
from workers.commands.mcp.tools import make_server

_MOST_BODY_BYTES: Final = 256 * 1024
_BEARER: Final = "bearer "


def serve_stdio(folders: Sequence[Path], data_dir: Path | None) -> None:
    """Answer the process that started this one until it closes its end. Raises BadRequest, DependencyUnavailable."""
    anyio.run(_serve_stdio, AllowedFolders(folders), find_target(data_dir))


async def _serve_stdio(folders: AllowedFolders, target: Target) -> None:
    async with connect(target) as api:

        @asynccontextmanager
        async def opened(_: Context[Any, Any]) -> AsyncIterator[ApiClient]:
            yield api

        await make_server(opened, folders).run_stdio_async()


def serve_http(host: str, port: int, data_dir: Path | None) -> None:
    """Serve until stopped. Raises BadRequest, DependencyUnavailable where no API is named."""
    anyio.run(_serve_http, host, port, find_target(data_dir))


async def _serve_http(host: str, port: int, target: Target) -> None:
    server = HttpServer(http_app(target, host), HttpSettings(), host=host, port=port)
    await server.run()


def http_app(target: Target, host: str = "127.0.0.1") -> ASGIApp:
    """The ASGI application. Each request is stateless, and is made with the API key that it brings."""

    def opened(context: Context[Any, Any]) -> AbstractAsyncContextManager[ApiClient]:
        key = _key_of((context.headers or {}).get("authorization", ""))
        if not key:
            raise ToolError("unauthorized: send an API key as 'Authorization: Bearer KEY'")
        return connect(replace(target, api_key=key))

    app = make_server(opened, AllowedFolders([])).streamable_http_app(
        json_response=True, stateless_http=True, max_request_body_size=_MOST_BODY_BYTES, host=host
    )
    return _KeyRequired(app)


class _KeyRequired:
    """Answers 401 to a request without a key. Whether the key is right says the API, at each call of a tool."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _key_of(Headers(scope=scope).get("authorization", "")):
            detail = "send an API key of Pagemill as 'Authorization: Bearer KEY'"
            answer = problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _key_of(authorization: str) -> str:
    if authorization[: len(_BEARER)].lower() != _BEARER:
        return ""
    return authorization[len(_BEARER) :].strip()
