"""A worker that cannot render or embed a page stops before it takes a job."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from ingestion.model import Page, Vectors
from ingestion.settings import RenderSettings
from tests.support.embedders import WordEmbedder
from workers.rendering.render_child import RenderRequest, RenderResult
from workers.rendering.renderer import PdfRenderer
from workers.rendering.selftest import SelfTestFailed, self_test


class OtherShape(WordEmbedder):
    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return [vectors[:, :5] for vectors in await super().embed_pages(pages)]


def renderer() -> PdfRenderer:
    return PdfRenderer(RenderSettings(), max_pages=10)


async def test_a_sound_worker_passes() -> None:
    await self_test(renderer(), WordEmbedder())


async def test_an_embedder_of_another_shape_is_refused() -> None:
    with pytest.raises(SelfTestFailed, match="shape"):
        await self_test(renderer(), OtherShape())


async def test_a_renderer_that_crashes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.rendering.page_source.render_pages", crashes)
    with pytest.raises(SelfTestFailed, match=r"cannot render a page: .*crashes died with status 7"):
        await self_test(renderer(), WordEmbedder())


def crashes(request: RenderRequest) -> RenderResult:
    """Runs in the render child."""
    os._exit(7)
