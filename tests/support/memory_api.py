"""The real API over in-memory stores: no servers, and documents whose pages are stored by a worker's own code."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import httpx
from fastapi import FastAPI
from PIL import Image
from pydantic import SecretStr

from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.model import Document, Page, PageVectors, document_id, source_key
from ingestion.search import Searcher
from ingestion.settings import Settings
from ingestion.viewing.image_child import smaller_image
from ingestion.viewing.images import PageImages
from tests.memory import MemoryBlobStore, MemoryDocumentStore, MemoryVectorStore
from tests.memory.consumer_group import MemoryConsumerGroup
from tests.memory.dead_letters import MemoryDeadLetters
from tests.memory.job_queue import MemoryJobQueue
from tests.memory.progress import MemoryProgress
from tests.support.embedders import WordEmbedder
from workers.attempt.store import PageStore

KEY: Final = "a key for tests"
COLLECTION: Final = "manuals"


class NoQueryCache:
    """QueryCache that keeps nothing."""

    async def get(self, key: str) -> bytes | None:
        return None

    async def put(self, key: str, value: bytes, ttl_s: int) -> None: ...


@dataclass(slots=True)
class MemoryApi:
    """`embedder` embeds pages and queries."""

    app: FastAPI
    services: Services
    embedder: Any

    def client(self, key: str | None = KEY) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", headers=headers)

    async def add_ready(
        self, pages: Sequence[Page], filename: str = "a.pdf", collection: str = COLLECTION
    ) -> Document:
        """A ready document with these pages."""
        document = await self.add(len(pages), filename, collection)
        claimed = await self.services.documents.claim(document.id, "worker", 60_000)
        store = PageStore(self.services.documents, self.services.blobs, self.services.vectors)
        generation = await store.prepare(claimed, self.embedder)
        codes = store.code_writer(claimed, generation, 0)
        vectors = await self.embedder.embed_pages(pages)
        entries = [
            PageVectors(page, claimed.page_key(page.page_number), found)
            for page, found in zip(pages, vectors, strict=True)
        ]
        await store.write(claimed, entries, codes)
        return await self.services.documents.finish(await store.completed(claimed, codes))

    async def add(self, pages: int = 1, filename: str = "a.pdf", collection: str = COLLECTION) -> Document:
        """A queued document."""
        first = await self.services.documents.reserve_page_keys(max(pages, 1))
        id_ = document_id(collection, filename, f"{first}")
        document = Document(id_, collection, filename, source_key(id_), "0" * 64, 1, pages=pages, first_page_key=first)
        await self.services.blobs.put(document.object_key, b"%PDF-", "application/pdf")
        await self.services.documents.insert(document)
        await self.services.documents.mark_queued(document)
        return document


def memory_api(embedder: Any = None, settings: Settings | None = None) -> MemoryApi:
    settings = settings or Settings()
    settings.api = settings.api.model_copy(update={"api_key": SecretStr(KEY)})
    embedder = embedder or WordEmbedder()
    blobs, documents, vectors = MemoryBlobStore(), MemoryDocumentStore(), MemoryVectorStore()
    queue = MemoryJobQueue()
    services = cast(
        Services,
        SimpleNamespace(
            settings=settings,
            queue=queue,
            dead_letters=MemoryDeadLetters(queue),
            consumer_group=MemoryConsumerGroup(),
            blobs=blobs,
            vectors=vectors,
            documents=documents,
            progress=MemoryProgress(),
            query_cache=NoQueryCache(),
            embedder=embedder,
        ),
    )
    searcher = Searcher(
        embedder=embedder, vectors=vectors, records=cast(Any, documents), blobs=blobs, settings=settings.search
    )
    app = create_app(services, searcher)
    app.state.page_images = PageImages(blobs, resize=_resized_here)
    return MemoryApi(app, services, embedder)


async def _resized_here(image: bytes, width_px: int) -> bytes:
    return smaller_image(image, width_px)


def picture(width_px: int, height_px: int, image_format: str = "PNG") -> bytes:
    """A picture without text."""
    written = io.BytesIO()
    Image.linear_gradient("L").resize((width_px, height_px)).convert("RGB").save(written, image_format)
    return written.getvalue()
