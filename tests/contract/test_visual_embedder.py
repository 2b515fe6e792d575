"""The visual embedder as the pipeline sees it: opened from settings, shared by callers, known by its fingerprint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingestion.errors import BadRequest
from ingestion.model import ROWS_PER_PAGE, Page
from ingestion.ports import Embedder
from ingestion.settings import EmbedderSettings, RenderSettings
from tests.support.tiny_checkpoints import DIM, page_pixels
from workers.embedding.batching.batcher import Batcher
from workers.embedding.factory import open_embedder
from workers.embedding.visual.embedder import VisualEmbedder, fingerprint
from workers.embedding.visual.loading import LoadedModel, load_model

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TOLERANCE = 1e-5
"""Largest difference of a component between a page embedded alone and with others, in float32."""


def settings(checkpoint: Path, **changes: Any) -> EmbedderSettings:
    values = {"embedder": "visual", "visual_model": str(checkpoint), "visual_precision": "fp32", **changes}
    return EmbedderSettings.model_validate(values)


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> LoadedModel:
    return load_model(settings(checkpoint))


@pytest.fixture
async def embedder(loaded: LoadedModel) -> AsyncIterator[VisualEmbedder]:
    batcher = Batcher(loaded.model, batch_cost=1000)
    yield VisualEmbedder(
        batcher, dim=loaded.model.dim, most_tokens=768, sizing=loaded.model.sizing, fingerprint="test"
    )
    await batcher.close()


def page(number: int) -> Page:
    height_px, width_px = 100 + 40 * number, 90 + 7 * number
    return Page(number, width_px, height_px, b"", "", page_pixels(height_px, width_px, number))


async def test_callers_at_the_same_time_get_what_each_would_get_alone(embedder: Embedder) -> None:
    assert embedder.wants_pixels and embedder.dim == DIM
    windows = [[page(1), page(2), page(3)], [page(4)], [page(5), page(6)]]
    together = await asyncio.gather(
        *(embedder.embed_pages(window) for window in windows), embedder.embed_queries(["boiler", "harbour"])
    )
    for window, found in zip(windows, together[:-1], strict=True):
        for one, vectors in zip(window, found, strict=True):
            (alone,) = await embedder.embed_pages([one])
            assert np.abs(vectors - alone).max() <= TOLERANCE
    for query, vectors in zip(["boiler", "harbour"], together[-1], strict=True):
        (alone,) = await embedder.embed_queries([query])
        assert np.abs(vectors - alone).max() <= TOLERANCE


async def test_no_input_gives_no_vectors(embedder: Embedder) -> None:
    assert await embedder.embed_pages([]) == await embedder.embed_queries([]) == []


async def test_a_page_without_its_picture_is_that_callers_error(embedder: Embedder) -> None:
    good, bad = await asyncio.gather(
        embedder.embed_pages([page(1)]), embedder.embed_pages([Page(1, 1, 1, b"", "text")]), return_exceptions=True
    )
    assert isinstance(bad, BadRequest)
    assert isinstance(good, list) and good[0].shape[1] == DIM


@pytest.mark.parametrize("size_px", [(1200, 900), (40, 30), (1, 9000)])
async def test_a_picture_that_was_fitted_before_has_the_same_vectors(
    embedder: VisualEmbedder, size_px: tuple[int, int]
) -> None:
    pixels = page_pixels(*size_px)
    fitted = embedder.fit(pixels)
    assert fitted.shape[1::-1] == embedder.fitted_px(size_px[1], size_px[0])
    (whole,) = await embedder.embed_pages([Page(1, 1, 1, b"", "", pixels)])
    (found,) = await embedder.embed_pages([Page(1, 1, 1, b"", "", fitted)])
    assert np.abs(found - whole).max() <= TOLERANCE


async def test_the_embedder_opened_from_settings_has_its_fingerprint_and_fits_the_largest_page(
    checkpoint: Path, loaded: LoadedModel
) -> None:
    wide, render = settings(checkpoint, visual_max_tokens=2000), RenderSettings()
    async with open_embedder(wide, render) as embedder:
        assert embedder.fingerprint == fingerprint(loaded, wide, render)
        (vectors,) = await embedder.embed_pages([Page(1, 1240, 1260, b"", "", page_pixels(1240, 1260))])
    assert 1900 < len(vectors) <= ROWS_PER_PAGE


@pytest.mark.parametrize(
    ("embedding", "rendering"),
    [
        ({"visual_prompt_tokens": "drop"}, {}),
        ({"visual_max_tokens": 700}, {}),
        ({"token_pooling": 2}, {}),
        ({}, {"renderer": "poppler"}),
        ({}, {"dpi_policy": "granular"}),
        ({}, {"dpi_policy": "fixed"}),
        ({}, {"dpi_policy": "fixed", "fixed_dpi": 300}),
        ({}, {"max_page_px": 4_000_000}),
    ],
)
def test_the_fingerprint_changes_with_every_setting_that_changes_vectors(
    checkpoint: Path, loaded: LoadedModel, embedding: dict[str, Any], rendering: dict[str, Any]
) -> None:
    usual = fingerprint(loaded, settings(checkpoint), RenderSettings())
    other = fingerprint(loaded, settings(checkpoint, **embedding), RenderSettings.model_validate(rendering))
    assert other != usual


def test_the_fingerprint_names_weights_precision_versions_and_prompts(
    checkpoint: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = fingerprint(loaded, settings(checkpoint), RenderSettings())
    assert loaded.version in usual
    others = [
        replace(loaded, version="another"),
        replace(loaded, prompts="another"),
        *(replace(loaded, precision=precision) for precision in ("bf16", "nf4")),
    ]
    fingerprints = {fingerprint(other, settings(checkpoint), RenderSettings()) for other in others}
    assert usual not in fingerprints and len(fingerprints) == len(others)
    monkeypatch.setattr("importlib.metadata.version", lambda package: "9.9")
    assert "transformers-9.9" in fingerprint(loaded, settings(checkpoint), RenderSettings())


def test_the_fingerprint_of_colqwen2_is_that_of_release_0_2(
    checkpoint: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collections that this release filled stay searchable."""
    monkeypatch.setattr("importlib.metadata.version", lambda package: "9.9")
    found = fingerprint(loaded, settings(checkpoint), RenderSettings())
    expected = (
        f"colqwen2/folder@{loaded.version}/fp32/transformers-9.9/prompt-016c4218-keep/tokens-768/pool-1/"
        "pdfium-two-tier-16000000"
    )
    assert found == expected
    assert fingerprint(loaded, settings(checkpoint, visual_max_tokens=768), RenderSettings()) == expected


def test_the_fingerprint_does_not_change_with_place_or_speed(checkpoint: Path, loaded: LoadedModel) -> None:
    changes = {"visual_device": "cpu", "embed_batch_patches": 99, "embed_wait_ms": 1}
    usual = fingerprint(loaded, settings(checkpoint), RenderSettings())
    assert fingerprint(loaded, settings(checkpoint, **changes), RenderSettings(render_processes=7)) == usual
