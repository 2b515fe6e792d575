"""From settings to an embedder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingestion.adapters.embedding_http import RemoteEmbedder
from ingestion.ports import Embedder
from ingestion.settings import EmbedderSettings


@asynccontextmanager
async def open_embedder(settings: EmbedderSettings) -> AsyncIterator[Embedder]:
    """The embedder that the settings name; a local model is loaded in a thread, which takes seconds."""
    if settings.embedder == "remote":
        async with RemoteEmbedder(settings) as remote:
            await remote.connect()
            yield remote
        return
    from workers.embedding.local import LocalEmbedder  # torch is loaded only by the process that needs it

    yield await asyncio.to_thread(LocalEmbedder, threads=settings.embedder_threads)
