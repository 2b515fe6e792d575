"""The embedding service over HTTP, with an embedder that a test can hold or make fail."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from ingestion.http.server import HttpServer
from ingestion.model import Page, Vectors
from ingestion.settings import HttpSettings, ServingSettings
from tests.support.embedders import WordEmbedder
from workers.embedding.serving.app import create_service
from workers.embedding.serving.service import EmbeddingService
from workers.embedding.serving.service_errors import error_body

MODEL = "words"
_WAIT_S = 10.0


class HeldEmbedder(WordEmbedder):
    """`seen` counts the inputs. Calls wait between `hold` and `let_go`, and raise `failure` if it is set."""

    def __init__(self, *, wants_pixels: bool = False) -> None:
        super().__init__(dim=16)
        self.wants_pixels = wants_pixels
        self.seen: Counter[str] = Counter()
        self.waiting = 0
        self.cancelled = 0
        self.failure: Exception | None = None
        self._may_go = asyncio.Event()
        self._may_go.set()

    def hold(self) -> None:
        self._may_go.clear()

    def let_go(self) -> None:
        self._may_go.set()

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        await self._turn(queries)
        return await super().embed_queries(queries)

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """A page with pixels gets a vector for each of its corners."""
        await self._turn([page.text if page.pixels is None else f"{page.width_px}x{page.height_px}" for page in pages])
        if not self.wants_pixels:
            return await super().embed_pages(pages)
        return [self._embed(f"{page.pixels[0, 0]} {page.pixels[-1, -1]}") for page in pages if page.pixels is not None]

    async def _turn(self, names: Sequence[str]) -> None:
        self.seen.update(names)
        self.waiting += 1
        try:
            await self._may_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def serving(
    embedder: WordEmbedder,
    *,
    settings: ServingSettings | None = None,
    http: HttpSettings | None = None,
    port: int = 0,
    grace_s: int = 5,
    **options: Any,
) -> AsyncIterator[Client]:
    """A running service and a client of it; `options` are those of EmbeddingService."""
    service = EmbeddingService(embedder, settings or ServingSettings(), model_id=MODEL, **options)
    with socket.create_server(("127.0.0.1", port)) as listener:
        front = HttpServer(
            create_service(service), http or HttpSettings(), grace_s=grace_s, quiet=True, error_body=error_body
        )
        server = front.server
        running = asyncio.create_task(front.run([listener], with_signals=False))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=_WAIT_S) as client:
                await eventually(lambda: server.started)
                yield Client(client, server)
        finally:
            server.should_exit = True
            await running


class Client:
    """Asks a service for embeddings."""

    def __init__(self, http: httpx.AsyncClient, server: uvicorn.Server) -> None:
        self.http = http
        self.server = server

    async def post(self, input: Any, **fields: Any) -> httpx.Response:
        return await self.http.post("/v1/embeddings", json={"input": input, **fields})

    async def embed(self, input: Any, **fields: Any) -> list[Vectors]:
        response = await self.post(input, **fields)
        assert response.status_code == 200, response.text
        return [vectors_of(item) for item in response.json()["data"]]

    async def refused(self, input: Any, **fields: Any) -> dict[str, Any]:
        """The error of a request that is answered 4xx."""
        response = await self.post(input, **fields)
        assert response.status_code in range(400, 500), response.text
        error: dict[str, Any] = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    async def health(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get("/health")).json()
        return found


def vectors_of(item: dict[str, Any]) -> Vectors:
    embedding = item["embedding"]
    if isinstance(embedding, str):
        flat = np.frombuffer(base64.b64decode(embedding), "<f4")
    else:
        flat = np.array(embedding, np.float32)
    return flat.reshape(item["shape"])


def picture(width_px: int, height_px: int, colour: str = "red", image_format: str = "PNG") -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (width_px, height_px), colour).save(encoded, image_format)
    return encoded.getvalue()


def data_uri(encoded: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(encoded).decode()}"


async def eventually(condition: Callable[[], object], timeout_s: float = _WAIT_S) -> None:
    """Return when `condition()` is true, while the event loop runs. Raises TimeoutError after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
