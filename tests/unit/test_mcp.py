"""`pagemill mcp`, called by the client of the official SDK."""

from __future__ import annotations

import base64
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from ingestion.client.client import ApiClient
from ingestion.client.target import Target
from ingestion.errors import BadRequest
from ingestion.model import Page
from tests.support.fake_api import API_KEY, FakeApi
from tests.support.memory_api import COLLECTION, MemoryApi, memory_api, picture
from tests.support.uploads import make_upload
from workers.commands.mcp.folders import AllowedFolders
from workers.commands.mcp.serving import http_app
from workers.commands.mcp.tools import make_server

TARGET = Target("http://api", "key", "start it", is_local=True)


@asynccontextmanager
async def agent(api: MemoryApi, folders: AllowedFolders | None = None) -> AsyncIterator[Client]:
    """A client of a server in this process, which calls an API in this process."""

    @asynccontextmanager
    async def opened(_: Any) -> AsyncIterator[ApiClient]:
        async with api.client() as http:
            http.base_url = "http://api/api/v1/"
            yield ApiClient(TARGET, http)

    async with Client(make_server(opened, folders or AllowedFolders([]))) as client:
        yield client


def text_of(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if part.type == "text")


def a_page(number: int, text: str) -> Page:
    return Page(number, 1000, 1400, picture(1000, 1400), text, image_format="png")


async def test_an_agent_finds_a_page_and_reads_its_text_and_picture() -> None:
    api = memory_api()
    document = await api.add_ready([a_page(1, "oil"), a_page(2, "the torque")])
    async with agent(api) as client:
        found = await client.call_tool("search_pages", {"query": "torque", "collection": COLLECTION, "top_k": 1})
        [hit] = found.structured_content["hits"]
        assert (hit["document_id"], hit["page"], hit["snippet"]) == (document.id, 2, "the torque")
        page = {"document_id": hit["document_id"], "page": hit["page"]}
        read = await client.call_tool("read_page", {**page, "width": 320})
        [image] = [part for part in read.content if part.type == "image"]
        assert text_of(read).splitlines() == [f"a.pdf, page 2 of 2 (document {document.id})", "", "the torque"]
        assert image.mime_type == "image/webp" and base64.b64decode(image.data).startswith(b"RIFF")
        kinds = {}
        for show in ("text", "picture"):
            answer = await client.call_tool("read_page", {**page, "show": show})
            kinds[show] = [part.type for part in answer.content]
        assert kinds == {"text": ["text"], "picture": ["text", "image"]}


async def test_an_agent_lists_documents_in_parts_and_sees_their_states() -> None:
    api = memory_api()
    ids = sorted([(await api.add_ready([a_page(1, "oil")], f"{name}.pdf")).id for name in "abc"])
    async with agent(api) as client:
        first = (await client.call_tool("list_documents", {"limit": 2})).structured_content
        rest = (await client.call_tool("list_documents", {"after": first["next"]})).structured_content
        assert [one["document_id"] for one in (*first["documents"], *rest["documents"])] == ids
        assert rest["next"] is None
        state = (await client.call_tool("document_state", {"document_id": ids[0]})).structured_content
        assert (state["state"], state["pages"]) == ("ready", 1)


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("document_state", {"document_id": "none"}, "not_found: no document none"),
        ("read_page", {"document_id": "none", "page": 1}, "not_found"),
        ("search_pages", {"query": "x", "collection": "not a name"}, "bad_request: collection name"),
        ("search_pages", {"query": "x" * 4001}, "4000"),
        ("search_pages", {"query": "x", "top_k": 1000}, "20"),
        ("read_page", {"document_id": "none", "page": 0}, "greater than or equal to 1"),
        ("read_page", {"document_id": "none", "page": 1, "width": 5000}, "1600"),
        ("list_documents", {"limit": 0}, "greater than or equal to 1"),
        ("ingest_file", {"path": "/etc/passwd"}, "ingest_file"),
    ],
)
async def test_a_wrong_call_is_answered_with_a_clear_error(tool: str, arguments: dict[str, Any], words: str) -> None:
    async with agent(memory_api()) as client:
        try:
            result = await client.call_tool(tool, arguments)
        except Exception as error:  # noqa: BLE001 - a tool that is not there is an error of the protocol
            assert words in str(error)
            return
        assert result.is_error and words in text_of(result), text_of(result)


async def test_only_files_below_an_allowed_folder_are_ingested(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "allowed-not"
    for folder in (allowed, secret):
        folder.mkdir()
        (folder / "a.pdf").write_bytes(make_upload(1))
    (allowed / "link.pdf").symlink_to(secret / "a.pdf")
    folders = AllowedFolders([allowed])
    assert folders.file(str(allowed / "a.pdf")) == allowed / "a.pdf"
    for path in ("link.pdf", "../allowed-not/a.pdf", "none.pdf", "", ".", "a.pdf\0", str(secret / "a.pdf")):
        with pytest.raises(BadRequest, match="not a file below an allowed folder"):
            folders.file(str(allowed / path))
    with pytest.raises(BadRequest, match="no such folder"):
        AllowedFolders([tmp_path / "none"])
    async with agent(memory_api(), folders) as client:
        assert "ingest_file" in [tool.name for tool in (await client.list_tools()).tools]
        refused = await client.call_tool("ingest_file", {"path": str(secret / "a.pdf")})
        assert refused.is_error and "bad_request" in text_of(refused)
    async with agent(memory_api()) as client:
        assert "ingest_file" not in [tool.name for tool in (await client.list_tools()).tools]


async def test_over_stdio_the_server_uses_the_key_of_the_settings(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(make_upload(1))
    command = ["-m", "workers.cli", "mcp", "--allow", str(tmp_path)]
    server = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    async with Client(server) as client:
        sent = (await client.call_tool("ingest_file", {"path": str(tmp_path / "a.pdf")})).structured_content
        assert (sent["filename"], sent["state"]) == ("a.pdf", "queued")
        assert list(api.documents) == [sent["document_id"]]


async def test_over_http_each_request_has_a_key_of_its_own(api: FakeApi) -> None:
    id_ = api.add("a.pdf")
    with serving(http_app(Target(api.url, "not this one", "", is_local=True))) as url:
        async with over_http(url, API_KEY) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert names == ["search_pages", "read_page", "list_documents", "document_state"]
            shown = (await client.call_tool("document_state", {"document_id": id_})).structured_content
            assert shown["filename"] == "a.pdf"
        async with over_http(url, "wrong") as client:
            refused = await client.call_tool("document_state", {"document_id": id_})
            assert refused.is_error and "unauthorized" in text_of(refused)
        async with httpx2.AsyncClient() as http:
            answer = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@asynccontextmanager
async def over_http(url: str, key: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of the application, served in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            thread.join()
