"""An embedding service in a process of its own, around an embedder that loads no model:

    python -m tests.support.replica PORT NAME [--pixels]

`NAME` is the name of its model. A text that begins with "sleep 0.5" takes 0.5 s. Settings come from the environment,
as in production.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from ingestion.http.server import HttpServer
from ingestion.model import Page, Vectors
from ingestion.settings import HttpSettings, ServingSettings
from tests.support.embedders import WordEmbedder
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from workers.embedding.serving.app import create_service
from workers.embedding.serving.service import EmbeddingService
from workers.embedding.serving.service_errors import error_body

_START_S = 30.0
_STOP_S = 10.0


class SleepyEmbedder(WordEmbedder):
    """Embeds the mean of a page's pixels."""

    def __init__(self, *, wants_pixels: bool) -> None:
        super().__init__()
        self.wants_pixels = wants_pixels

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        for query in queries:
            if asked := re.match(r"sleep ([\d.]+)", query):
                await asyncio.sleep(float(asked[1]))
        return await super().embed_queries(queries)

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        if not self.wants_pixels:
            return await super().embed_pages(pages)
        return [self._embed(f"mean{page.pixels.mean():.0f}") for page in pages if page.pixels is not None]


@dataclass(frozen=True)
class Replica:
    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(_STOP_S)


@contextmanager
def replica(name: str, *options: str, port: int | None = None, **settings: object) -> Iterator[Replica]:
    """A running replica. `settings` are those of ServingSettings."""
    from tests.conftest import clean_environment  # not needed in the process itself

    port = port or free_port()
    environment = clean_environment() | {f"PAGEMILL_{key.upper()}": str(value) for key, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.replica", str(port), name, *options], env=environment
    )
    found = Replica(name, port, process)
    try:
        wait_until(lambda: _answers(f"{found.url}/ready") or process.poll() is not None, _START_S)
        assert process.poll() is None, f"{name} did not start"
        yield found
    finally:
        process.kill()
        process.wait(_STOP_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).is_success
    except httpx.TransportError:
        return False


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("--pixels", action="store_true", help="embed pictures of pages, not their text")
    arguments = parser.parse_args()
    embedder = SleepyEmbedder(wants_pixels=arguments.pixels)
    service = EmbeddingService(embedder, ServingSettings(), model_id=arguments.name)
    front = HttpServer(create_service(service), HttpSettings(), port=arguments.port, quiet=True, error_body=error_body)
    await front.run()


if __name__ == "__main__":
    asyncio.run(main())
