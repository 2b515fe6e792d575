"""Steps that many tests of the API share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from ingestion.bootstrap import Services
from ingestion.model import Failure, Page, PageVectors
from tests.support.embedders import WordEmbedder
from tests.support.uploads import make_upload
from workers.attempt.store import PageStore

KEY = "a secret € of " + secrets.token_hex(4)
DEADLINE_S = 30.0


def client_of(app: FastAPI, key: str | None = KEY) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}".encode()} if key is not None else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", headers=headers, timeout=DEADLINE_S)


async def upload(client: httpx.AsyncClient, collection: str, *files: tuple[str, bytes]) -> httpx.Response:
    return await client.post(f"/collections/{collection}/documents", files=[("files", file) for file in files])


async def uploaded(client: httpx.AsyncClient, collection: str, name: str = "a.pdf", pages: int = 2) -> str:
    answer = await upload(client, collection, (name, make_upload(pages)))
    assert answer.status_code == 202, answer.text
    [document] = answer.json()["documents"]
    return str(document["document_id"])


async def make_ready(services: Services, id_: str, *texts: str) -> None:
    """Do the work of a worker, without rendering. `texts` are the texts of the pages."""
    embedder = WordEmbedder()
    store = PageStore(services.documents, services.blobs, services.vectors)
    claimed = await services.documents.claim(id_, "worker", 60_000)
    generation = await store.prepare(claimed, embedder)
    codes = store.code_writer(claimed, generation, 0)
    pages = [Page(number, 10, 10, b"a picture", text) for number, text in enumerate(texts, 1)]
    vectors = await embedder.embed_pages(pages)
    await store.write(
        claimed,
        [PageVectors(p, claimed.page_key(p.page_number), v) for p, v in zip(pages, vectors, strict=True)],
        codes,
    )
    await services.documents.checkpoint(id_, claimed.fence, len(pages))
    await services.documents.finish(await store.completed(claimed, codes))


async def fail(services: Services, id_: str) -> None:
    claimed = await services.documents.claim(id_, "worker", 60_000)
    await services.documents.fail(id_, claimed.fence, Failure("corrupt_pdf", "render", "page 2 is broken"))


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:pagemill:problem:{code}")
    assert body["title"] and body["detail"]
    return body


class StreamedRequest:
    """A request whose answer can be read while it is sent. The in-process transport of httpx cannot do that."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: list[bytes]) -> None:
        """The client sends the chunks of `body`, waits for `left`, and disconnects."""
        headers = {"authorization": f"Bearer {KEY}", **headers}
        path, _, query = path.partition("?")
        self.scope = {
            "type": "http",
            "method": method,
            "path": f"/api/v1{path}",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        self.status = 0
        self.text = ""
        self.left = asyncio.Event()
        self._body = body
        self._progress = asyncio.Condition()

    async def receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(0), "more_body": True}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        async with self._progress:
            self.status = message.get("status", self.status)
            self.text += message.get("body", b"").decode()
            self._progress.notify_all()

    async def until(self, text: str) -> None:
        """Return when the answer contains `text`."""
        async with asyncio.timeout(DEADLINE_S), self._progress:
            await self._progress.wait_for(lambda: text in self.text)


@asynccontextmanager
async def running(app: FastAPI, streamed: StreamedRequest) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(app(streamed.scope, streamed.receive, streamed.send))
    try:
        yield task
    finally:
        streamed.left.set()
        await asyncio.wait_for(task, DEADLINE_S)
