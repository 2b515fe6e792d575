"""The visual embedder: a late-interaction model over the image of a page, one vector per image token."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ingestion.model import Page, Vectors
from ingestion.settings import EmbedderSettings, RenderSettings
from workers.embedding.batching.batcher import Batcher
from workers.embedding.visual.family import ModelInput, Sizing, fitted_size
from workers.embedding.visual.loading import LoadedModel, load_model
from workers.embedding.visual.texts import AUGMENTATION_TOKENS


class VisualEmbedder:
    """Embedder over page images. Pages and queries of all callers share batches; queries go first."""

    wants_pixels = True

    def __init__(
        self,
        batcher: Batcher[Page | str, ModelInput, Tensor],
        *,
        dim: int,
        most_tokens: int,
        sizing: Sizing,
        fingerprint: str,
    ) -> None:
        """`most_tokens`: the most image tokens of a page."""
        self._batcher = batcher
        self._sizing = sizing
        self.dim = dim
        self.most_tokens = most_tokens
        self.fingerprint = fingerprint
        self.activity = batcher.activity

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """Return one (rows, dim) float32 array per page, rows of unit length.

        Raises BadRequest for a page without pixels, and the errors of `Batcher.embed`.
        """
        return await self._batcher.embed(pages)

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        """Return one (tokens, dim) float32 array per query. Raises the errors of `Batcher.embed`."""
        return await self._batcher.embed(queries, urgent=True)

    def fitted_px(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height to which an image can be resized without changing its vectors."""
        height_px, width_px = fitted_size(self._sizing, height_px, width_px)
        return width_px, height_px

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize (height, width, 3) uint8 to `fitted_px`. Blocks; safe in several threads."""
        height_px, width_px = pixels.shape[:2]
        if fitted_size(self._sizing, height_px, width_px) == (height_px, width_px):
            return pixels
        fitted: NDArray[np.uint8] = self._sizing.resize(pixels).numpy()
        return fitted


@asynccontextmanager
async def open_visual(settings: EmbedderSettings, render: RenderSettings) -> AsyncIterator[VisualEmbedder]:
    """Load the model, which takes seconds to minutes, and close it at the end of the block. Raises as `load_model`."""
    loaded = await asyncio.to_thread(load_model, settings)
    batcher = Batcher(loaded.model, batch_cost=settings.embed_batch_patches, wait_ms=settings.embed_wait_ms)
    try:
        yield VisualEmbedder(
            batcher,
            dim=loaded.model.dim,
            most_tokens=loaded.model.family.token_cap(settings.visual_max_tokens),
            sizing=loaded.model.sizing,
            fingerprint=fingerprint(loaded, settings, render),
        )
    finally:
        await batcher.close()


def fingerprint(loaded: LoadedModel, settings: EmbedderSettings, render: RenderSettings) -> str:
    """Name everything that a page's vectors depend on, up to rounding.

    A checkpoint of the hub is named by repository and commit, a local folder by the digest of its files.
    """
    family = loaded.model.family
    prompts = hashlib.sha256(f"{loaded.prompts}\n{AUGMENTATION_TOKENS}".encode()).hexdigest()[:8]
    packages = ["transformers", *(["bitsandbytes"] if loaded.precision == "nf4" else [])]
    versions = [f"{package}-{importlib.metadata.version(package)}" for package in packages]
    dpi = f"{render.dpi_policy}-{render.fixed_dpi}" if render.dpi_policy == "fixed" else render.dpi_policy
    engine = "poppler" if render.renderer == "poppler" else "pdfium"  # `auto` tries pdfium first
    name = "folder" if Path(settings.visual_model).is_dir() else settings.visual_model
    parts = [
        f"{family.name}/{name}@{loaded.version}",
        loaded.precision,
        *versions,
        f"prompt-{prompts}-{settings.visual_prompt_tokens}",
        f"tokens-{family.token_cap(settings.visual_max_tokens)}",
        f"pool-{settings.token_pooling}",
        f"{engine}-{dpi}-{render.max_page_px}",
    ]
    return "/".join(parts)
