"""From settings to an embedder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingestion.adapters.embedding_http import RemoteEmbedder
from ingestion.errors import EmbedderMissing
from ingestion.ports import Embedder
from ingestion.settings import EmbedderSettings, RenderSettings


@asynccontextmanager
async def open_embedder(settings: EmbedderSettings, render: RenderSettings) -> AsyncIterator[Embedder]:
    """The embedder that the settings name; a local model is loaded in a thread, which takes seconds.

    Raises DependencyUnavailable, EmbedderMissing, and of ColQwen2 whatever `colqwen_load.load` raises.
    """
    if settings.embedder == "remote":
        async with RemoteEmbedder(settings) as remote:
            await remote.connect()
            yield remote
        return
    # torch is loaded only by the process that needs it.
    try:
        if settings.embedder == "colqwen":
            from workers.embedding.colqwen import open_colqwen
        else:
            from workers.embedding.local import LocalEmbedder
    except ModuleNotFoundError as error:
        raise EmbedderMissing(
            f"the {settings.embedder} embedder needs {error.name}: pip install 'pagemill[{settings.embedder}]'"
        ) from error
    if settings.embedder == "colqwen":
        async with open_colqwen(settings, render) as colqwen:
            yield colqwen
    else:
        yield await asyncio.to_thread(LocalEmbedder, threads=settings.embedder_threads)
