"""Input that makes an embedding service fail, and services that fail at every input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from ingestion.adapters.embedding.http import RemoteEmbedder
from ingestion.errors import DependencyUnavailable, EmbeddingFailed
from ingestion.model import Page
from ingestion.settings import EmbedderSettings, ServingSettings
from tests.chaos.proxy import Proxies, Proxy, Tripwire
from tests.support.serving import HeldEmbedder, eventually, serving

TIMEOUT_S = 1.0
POISON = "poison"


class PoisonedEmbedder(HeldEmbedder):
    """Hangs or fails at a page with the word "poison". With `together` it hangs at every batch of several pages."""

    def __init__(self, *, fails: bool = False, together: bool = False) -> None:
        super().__init__()
        self._fails = fails
        self._together = together

    async def _turn(self, names: Sequence[str]) -> None:
        await super()._turn(names)
        if any(POISON in name for name in names) or (self._together and len(names) > 1):
            if self._fails:
                raise RuntimeError("a shape that the model cannot take")
            await asyncio.Event().wait()


@asynccontextmanager
async def remote(embedder: HeldEmbedder, **serve: Any) -> AsyncIterator[tuple[RemoteEmbedder, Proxy]]:
    async with serving(embedder, settings=ServingSettings(**serve)) as service:
        with Proxies() as proxies:
            network = proxies.to(str(service.http.base_url).removeprefix("http://").rstrip("/"))
            settings = EmbedderSettings(embedder_url=f"http://{network.address}", embedder_timeout_s=TIMEOUT_S)
            async with RemoteEmbedder(settings) as adapter:
                yield adapter, network


def pages(*texts: str) -> list[Page]:
    return [Page(number, 10, 10, b"", text) for number, text in enumerate(texts, start=11)]


@pytest.mark.parametrize("fails", [False, True], ids=["hangs", "fails"])
async def test_the_page_at_fault_is_named_and_the_others_are_embedded(fails: bool) -> None:
    embedder = PoisonedEmbedder(fails=fails)
    async with remote(embedder) as (adapter, _):
        with pytest.raises(EmbeddingFailed, match="page 13 cannot be embedded, and other input can") as failed:
            await adapter.embed_pages(pages("one", "two", POISON, "four"))
    assert failed.value.stage == "embed"
    assert embedder.seen["one"] == embedder.seen["two"] == 2, "together, and then alone"


async def test_pages_that_are_too_much_together_are_embedded_one_by_one() -> None:
    embedder = PoisonedEmbedder(together=True)
    async with remote(embedder) as (adapter, _):
        found = await adapter.embed_pages(pages("one", "two two"))
    assert [len(vectors) for vectors in found] == [1, 2]


async def test_a_page_that_breaks_every_connection_is_not_taken_for_a_network_outage() -> None:
    async with remote(HeldEmbedder()) as (adapter, network):
        await adapter.connect()

        def cut(port: int) -> bool:
            for connection in list(network._connections):
                if connection.client_port == port:
                    connection.reset()
            return False

        network.watch(Tripwire(POISON.encode(), cut, before=True))
        with pytest.raises(EmbeddingFailed, match="page 12"):
            await adapter.embed_pages(pages("one", POISON))


async def test_a_service_that_hangs_at_every_request_is_an_outage_of_no_document() -> None:
    embedder = HeldEmbedder()
    async with remote(embedder) as (adapter, _):
        await adapter.connect()
        embedder.hold()
        with pytest.raises(DependencyUnavailable, match="ReadTimeout"):
            await adapter.embed_pages(pages("one", "two"))
        assert embedder.seen["one"] == 1, "it is not isolated while nothing works"


async def test_a_ping_of_a_service_with_a_hung_model_is_no_evidence() -> None:
    embedder = HeldEmbedder()
    async with remote(embedder) as (adapter, _):
        await adapter.prove()
        embedder.hold()
        embedding = asyncio.create_task(adapter.embed_pages(pages("one")))
        await eventually(lambda: embedder.waiting)
        await adapter.ping()
        with pytest.raises(DependencyUnavailable):
            await adapter.prove()
        embedder.let_go()
        await asyncio.gather(embedding, return_exceptions=True)


async def test_a_proof_of_pictures_is_a_picture() -> None:
    embedder = HeldEmbedder(wants_pixels=True)
    async with remote(embedder) as (adapter, _):
        await adapter.prove()
    assert dict(embedder.seen) == {"56x56": 1}


async def test_each_answer_is_a_sign_of_progress() -> None:
    async with remote(PoisonedEmbedder()) as (adapter, _):
        completed = adapter.activity.completed
        with pytest.raises(EmbeddingFailed):
            await adapter.embed_pages(pages("one", POISON))
        assert adapter.activity.completed == completed + 3, "both together, and each alone"


async def test_an_answer_that_drips_is_not_waited_for_for_ever() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with suppress(OSError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    settings = EmbedderSettings(embedder_url=f"http://{host}:{port}", embedder_timeout_s=TIMEOUT_S)
    async with server, RemoteEmbedder(settings) as adapter, asyncio.timeout(30.0):
        with pytest.raises(DependencyUnavailable, match="no whole answer"):
            await adapter.connect()
