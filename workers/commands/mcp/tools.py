"""The tools that agents call. Each is one or two requests to Pagemill's API."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from importlib.metadata import version
from typing import Annotated, Any, Final, Literal, ParamSpec

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from ingestion.client.client import ApiClient
from ingestion.client.views import DocumentView
from ingestion.errors import IngestError
from ingestion.hits import Hit
from workers.commands.mcp.folders import AllowedFolders

P = ParamSpec("P")

_READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_MOST_TEXT_CHARS: Final = 20_000
_INSTRUCTIONS: Final = (
    "Pagemill finds pages of documents. Search first; read a page (its picture shows tables and figures that its text "
    "does not); name document and page number when you use what it says."
)

Connect = Callable[[Context[Any, Any]], AbstractAsyncContextManager[ApiClient]]
"""Opens the API for the caller of a tool. Raises ToolError."""

Collection = Annotated[str, Field(max_length=100, description="the collection of documents")]
DocumentId = Annotated[str, Field(min_length=1, max_length=64, description="as search and list_documents name it")]


class FoundPages(BaseModel):
    """The pages that match best, best first."""

    hits: list[Hit]


class ListedDocuments(BaseModel):
    """`next` is the value of `after` for the next part; null at the end."""

    documents: list[DocumentView]
    next: str | None


def make_server(connect: Connect, folders: AllowedFolders) -> MCPServer[Any]:
    """A server with all tools. `ingest_file` is one of them only where `folders` has any."""
    server = MCPServer[Any]("pagemill", version=version("pagemill"), instructions=_INSTRUCTIONS, log_level="ERROR")
    _add_reading_tools(server, connect)
    _add_document_tools(server, connect)
    if folders:
        _add_ingest_tool(server, connect, folders)
    return server


def _add_reading_tools(server: MCPServer[Any], connect: Connect) -> None:
    @server.tool(annotations=_READS)
    @_with_clear_errors
    async def search_pages(
        ctx: Context[Any, Any],
        query: Annotated[str, Field(min_length=1, max_length=4000, description="a question, or words of the page")],
        collection: Collection = "default",
        top_k: Annotated[int, Field(ge=1, le=20, description="most pages to return")] = 5,
    ) -> FoundPages:
        """Find the pages that answer a question, best first, with a part of their text."""
        async with connect(ctx) as api:
            return FoundPages(hits=await api.search(collection, query, top_k))

    @server.tool(annotations=_READS)
    @_with_clear_errors
    async def read_page(
        ctx: Context[Any, Any],
        document_id: DocumentId,
        page: Annotated[int, Field(ge=1, le=1_000_000, description="counts from 1")],
        show: Annotated[Literal["text", "picture", "both"], Field(description="what to return of the page")] = "both",
        width: Annotated[Literal[320, 640, 960, 1280, 1600], Field(description="of the picture, in pixels")] = 960,
    ) -> CallToolResult:
        """Read a page: its text, and its picture as a person sees it."""
        content = list[TextContent | ImageContent]()
        async with connect(ctx) as api:
            found = await api.page(document_id, page)
            heading = f"{found.filename}, page {found.page} of {found.pages} (document {document_id})"
            if show == "picture":
                content.append(TextContent(type="text", text=heading))
            else:
                text = found.text[:_MOST_TEXT_CHARS] or "(the page has no text)"
                cut = "\n[the rest is cut]" if len(found.text) > _MOST_TEXT_CHARS else ""
                content.append(TextContent(type="text", text=f"{heading}\n\n{text}{cut}"))
            if show != "text":
                image = await api.page_image(document_id, page, width)
                data = base64.b64encode(image.data).decode()
                content.append(ImageContent(type="image", data=data, mime_type=image.media_type))
        return CallToolResult(content=list(content))


def _add_document_tools(server: MCPServer[Any], connect: Connect) -> None:
    @server.tool(annotations=_READS)
    @_with_clear_errors
    async def list_documents(
        ctx: Context[Any, Any],
        collection: Annotated[str | None, Field(max_length=100, description="only this one; null: all")] = None,
        limit: Annotated[int, Field(ge=1, le=100, description="most documents to return")] = 50,
        after: Annotated[str | None, Field(max_length=64, description="`next` of the answer before")] = None,
    ) -> ListedDocuments:
        """List documents with their states and page counts, sorted by id."""
        async with connect(ctx) as api:
            listed = await api.list_documents(collection, limit=limit, after=after)
        return ListedDocuments(documents=listed.documents, next=listed.next)

    @server.tool(annotations=_READS)
    @_with_clear_errors
    async def document_state(ctx: Context[Any, Any], document_id: DocumentId) -> DocumentView:
        """The state of a document (queued, processing, ready, failed), its pages, and why it failed."""
        async with connect(ctx) as api:
            return await api.document(document_id)


def _add_ingest_tool(server: MCPServer[Any], connect: Connect, folders: AllowedFolders) -> None:
    @server.tool(annotations=_ADDS)
    @_with_clear_errors
    async def ingest_file(
        ctx: Context[Any, Any],
        path: Annotated[str, Field(min_length=1, max_length=4096, description="a file below an allowed folder")],
        collection: Collection = "default",
    ) -> DocumentView:
        """Upload a file of this machine. It is found once its state is ready: see document_state."""
        async with connect(ctx) as api:
            return await api.upload(collection, folders.file(path))


def _with_clear_errors(tool: Callable[P, Any]) -> Callable[P, Any]:
    """Pagemill's errors as those of the tool, with their codes: the model reads them and can mend its call."""

    @wraps(tool)
    async def answered(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return await tool(*args, **kwargs)
        except IngestError as error:
            raise ToolError(f"{error.code}: {error.message}") from error

    return answered
