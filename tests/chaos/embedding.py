"""An embedding service for chaos workers: nearly free, and counts how often it embeds each page."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import uvicorn
from fastapi import HTTPException

from ingestion.model import Page, Vectors
from ingestion.settings import ServingSettings
from tests.chaos.documents import FLAKY, HANGS
from tests.support.embedders import WordEmbedder
from tests.support.waiting import wait_until
from workers.embedding.serving.app import create_service
from workers.embedding.serving.service import EmbeddingService

_START_S: Final = 20.0
_FLAKY_FAILURES: Final = 2
"""Requests of one attempt: the page with its neighbour, then alone."""


class CountingEmbedder(WordEmbedder):
    """`seen[text]` counts the embeddings of the page with that text. A request takes `embed_s`.

    A page that begins with "flaky" fails as many requests as a worker makes in one attempt. A request with a page that
    begins with "hangs" is never answered.
    """

    def __init__(self, embed_s: float) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.hung = 0
        self._embed_s = embed_s
        self._refused: Counter[str] = Counter()

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        texts = [normal(page.text) for page in pages]
        await asyncio.sleep(self._embed_s)
        self._fail_at_first(texts[0])
        if any(text.startswith(HANGS) for text in texts):
            self.hung += 1
            await asyncio.Event().wait()
        self.seen.update(texts)
        return await super().embed_pages(pages)

    def _fail_at_first(self, text: str) -> None:
        if text.startswith(FLAKY) and self._refused[text] < _FLAKY_FAILURES:
            self._refused[text] += 1
            raise HTTPException(500, "injected failure")


class EmbeddingServer:
    """The service in a thread, on a free port. A context manager."""

    def __init__(self, embed_s: float) -> None:
        self.embedder = CountingEmbedder(embed_s)
        self._listen(0)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _listen(self, port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        service = create_service(EmbeddingService(self.embedder, ServingSettings(), model_id="words"))
        self._server = uvicorn.Server(uvicorn.Config(service, log_config=None, access_log=False, lifespan="off"))
        self._thread = threading.Thread(target=self._run, name="embedding", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started, _START_S)
        return self

    def restart(self) -> None:
        """Answer the requests that have arrived, stop, and listen again. Blocks until it listens."""
        port = self._socket.getsockname()[1]
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._listen(port)
        self.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


def normal(text: str) -> str:
    """A page's text with normalised white space: line breaks depend on the renderer."""
    return " ".join(text.split())
