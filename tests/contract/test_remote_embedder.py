"""RemoteEmbedder against the embedding service it is made for, over real HTTP."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ingestion.adapters.embedding.http import RemoteEmbedder
from ingestion.errors import BadRequest, DependencyUnavailable, Overloaded
from ingestion.model import Page, Vectors
from ingestion.settings import EmbedderSettings, ServingSettings
from ingestion.vectors.blob import from_bf16, to_bf16
from tests.chaos.proxy import REFUSED, Proxies
from tests.support.ports import free_port
from tests.support.serving import HeldEmbedder, eventually, serving


class SeeingEmbedder(HeldEmbedder):
    """Keeps the pictures that it is shown."""

    def __init__(self) -> None:
        super().__init__(wants_pixels=True)
        self.pictures: list[NDArray[np.uint8] | None] = []

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        self.pictures += [page.pixels for page in pages]
        return await super().embed_pages(pages)


@asynccontextmanager
async def remote(
    embedder: HeldEmbedder, *, serve: ServingSettings | None = None, **settings: Any
) -> AsyncIterator[RemoteEmbedder]:
    """An adapter with `settings` of EmbedderSettings, and the service it talks to."""
    async with serving(embedder, settings=serve) as service:
        found = EmbedderSettings(embedder_url=str(service.http.base_url), **settings)
        async with RemoteEmbedder(found) as adapter:
            yield adapter


def page(number: int, text: str = "", pixels: NDArray[np.uint8] | None = None, image: bytes = b"") -> Page:
    height, width = (0, 0) if pixels is None else pixels.shape[:2]
    return Page(number, width, height, image, text, pixels)


def assert_same(found: Sequence[Vectors], expected: Sequence[Vectors]) -> None:
    """As the service rounds them."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, from_bf16(to_bf16(other)))


async def test_vectors_keep_their_order_for_every_batch_size() -> None:
    embedder = HeldEmbedder()
    texts = [f"number {number} of many words {'and more ' * (number % 5)}" for number in range(50)]
    async with remote(embedder, serve=ServingSettings(embed_max_inputs=7), embedder_request_bytes=300) as adapter:
        assert_same(await adapter.embed_queries(texts), await embedder.embed_queries(texts))
        pages = [page(number, text) for number, text in enumerate(texts, start=1)]
        assert_same(await adapter.embed_pages(pages), await embedder.embed_pages(pages))
        assert (adapter.fingerprint, adapter.dim) == (embedder.fingerprint, embedder.dim)
        assert not adapter.wants_pixels


async def test_a_page_without_text_has_no_vectors_and_costs_no_request() -> None:
    embedder = HeldEmbedder()
    async with remote(embedder) as adapter:
        found = await adapter.embed_pages([page(1), page(2, "words"), page(3, " \n")])
    assert [vectors.shape for vectors in found] == [(0, 16), (1, 16), (0, 16)]
    assert embedder.seen == {"words": 1}


@pytest.mark.parametrize("kept_as", ["WEBP", "PNG"])
async def test_a_visual_model_gets_the_exact_pixels_of_the_page(kept_as: str) -> None:
    drawn = np.random.default_rng(1).integers(0, 256, (90, 60, 3), np.uint8)
    kept = io.BytesIO()
    Image.fromarray(drawn).save(kept, kept_as)
    embedder = SeeingEmbedder()
    async with remote(embedder) as adapter:
        await adapter.connect()
        assert adapter.wants_pixels
        await adapter.embed_pages([page(1, "text", drawn, kept.getvalue())])
    (shown,) = embedder.pictures
    assert shown is not None
    np.testing.assert_array_equal(shown, drawn)


async def test_a_page_that_should_be_seen_and_has_no_pixels_is_refused() -> None:
    async with remote(SeeingEmbedder()) as adapter:
        with pytest.raises(BadRequest, match="page 3"):
            await adapter.embed_pages([page(3, "text", image=b"RIFF, a lossy picture")])


async def test_a_refusal_of_the_service_is_a_bad_request() -> None:
    async with remote(HeldEmbedder(), serve=ServingSettings(embed_max_input_chars=10)) as adapter:
        with pytest.raises(BadRequest, match="input_too_long"):
            await adapter.embed_queries(["a query of more than ten characters"])


async def test_requests_side_by_side_are_bounded() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    async with remote(embedder, serve=ServingSettings(embed_max_inputs=1), embedder_concurrency=3) as adapter:
        asking = asyncio.create_task(adapter.embed_queries([f"query {number}" for number in range(12)]))
        await eventually(lambda: embedder.waiting == 3)
        with pytest.raises(TimeoutError):
            await eventually(lambda: embedder.waiting > 3, timeout_s=0.3)
        embedder.let_go()
        assert len(await asking) == 12


async def test_overload_is_waited_out_for_as_long_as_the_service_asks() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    async with remote(embedder, serve=ServingSettings(embed_document_limit_tokens=8)) as adapter:
        first = asyncio.create_task(adapter.embed_pages([page(1, "one two three four five")]))
        await eventually(lambda: embedder.waiting)
        started = time.monotonic()
        second = asyncio.create_task(adapter.embed_pages([page(2, "six seven eight nine")]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(second), 0.3)
        embedder.let_go()
        assert len(await second) == len(await first) == 1
        assert time.monotonic() - started >= 1.0, "Retry-After is 1 second at least"


async def test_overload_that_lasts_is_an_outage() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    serve = ServingSettings(embed_document_limit_tokens=8)
    async with remote(embedder, serve=serve, embedder_patience_s=1.5) as adapter:
        first = asyncio.create_task(adapter.embed_pages([page(1, "one two three four five")]))
        await eventually(lambda: embedder.waiting)
        with pytest.raises(DependencyUnavailable, match="429"):
            await asyncio.wait_for(adapter.embed_pages([page(2, "six seven eight nine")]), 5.0)
        embedder.let_go()
        assert len(await first) == 1


async def test_a_query_that_there_is_no_room_for_says_when_to_come_back_and_is_not_sent_again() -> None:
    embedder = HeldEmbedder()
    embedder.hold()
    async with remote(embedder, serve=ServingSettings(embed_text_limit_tokens=8)) as adapter:
        first = asyncio.create_task(adapter.embed_queries(["one two three four five"]))
        await eventually(lambda: embedder.waiting)
        with pytest.raises(Overloaded) as refused:
            await adapter.embed_queries(["six seven eight nine"])
        assert refused.value.retry_after_s == 1
        embedder.let_go()
        assert len(await first) == 1


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    settings = EmbedderSettings(embedder_url=f"http://127.0.0.1:{free_port()}")
    async with RemoteEmbedder(settings) as adapter:
        with pytest.raises(DependencyUnavailable, match="embedder"):
            await asyncio.wait_for(adapter.embed_queries(["query"]), 10.0)
        with pytest.raises(DependencyUnavailable, match="embedder"):
            await asyncio.wait_for(adapter.ping(), 1.0)


async def test_a_connection_that_breaks_costs_no_request() -> None:
    embedder = HeldEmbedder()
    async with serving(embedder) as service:
        with Proxies() as proxies:
            network = proxies.to(str(service.http.base_url).removeprefix("http://").rstrip("/"))
            async with RemoteEmbedder(EmbedderSettings(embedder_url=f"http://{network.address}")) as adapter:
                await adapter.connect()
                embedder.hold()
                asking = asyncio.create_task(adapter.embed_queries(["query"]))
                await eventually(lambda: embedder.waiting)
                with network.broken(REFUSED):
                    await eventually(lambda: embedder.cancelled)
                embedder.let_go()
                assert len(await asking) == 1


async def test_a_service_that_is_silent_is_not_waited_for_twice() -> None:
    embedder = HeldEmbedder()
    async with remote(embedder, embedder_timeout_s=1.5) as adapter:
        await adapter.connect()
        embedder.hold()
        with pytest.raises(DependencyUnavailable, match="ReadTimeout"):
            await adapter.embed_queries(["query"])
        assert embedder.seen == {"query": 1}


async def test_a_service_that_has_lost_its_model_is_unavailable() -> None:
    embedder = HeldEmbedder()
    async with remote(embedder) as adapter:
        await adapter.embed_queries(["query"])
        embedder.failure = RuntimeError("the device is gone")
        with pytest.raises(DependencyUnavailable, match="model_lost"):
            await adapter.embed_queries(["another query"])


@asynccontextmanager
async def serving_at(port: int, fingerprint: str) -> AsyncIterator[None]:
    """A service that is started with that model, and stopped again."""
    embedder = HeldEmbedder()
    embedder.fingerprint = fingerprint
    async with serving(embedder, port=port):
        yield


async def test_queries_follow_the_service_to_another_model_and_the_fingerprint_says_so() -> None:
    port = free_port()
    async with RemoteEmbedder(EmbedderSettings(embedder_url=f"http://127.0.0.1:{port}")) as adapter:
        found = []
        for fingerprint in ("test/first", "test/second", "test/first"):
            async with serving_at(port, fingerprint):
                await adapter.embed_queries(["query"])
                found.append(adapter.fingerprint)
    assert found == ["test/first", "test/second", "test/first"]


async def test_pages_are_never_embedded_by_another_model_than_the_first() -> None:
    port = free_port()
    async with RemoteEmbedder(EmbedderSettings(embedder_url=f"http://127.0.0.1:{port}")) as adapter:
        async with serving_at(port, "test/first"):
            await adapter.embed_pages([page(1, "words")])
        async with serving_at(port, "test/second"):
            for _ in range(2):
                with pytest.raises(DependencyUnavailable, match="test/second"):
                    await adapter.embed_pages([page(2, "more words")])
                with pytest.raises(DependencyUnavailable, match="test/second"):
                    await adapter.embed_queries(["query"])
        assert adapter.fingerprint == "test/first"
        async with serving_at(port, "test/first"):
            assert len(await adapter.embed_pages([page(2, "more words")])) == 1


async def test_connections_are_kept() -> None:
    embedder = HeldEmbedder()
    async with serving(embedder) as service:
        url = str(service.http.base_url)
        async with RemoteEmbedder(EmbedderSettings(embedder_url=url, embedder_concurrency=2)) as adapter:
            for number in range(20):
                await adapter.embed_queries([f"query {number}"])
            assert len(service.server.server_state.connections) == 1
            assert service.server.server_state.total_requests == 21
