"""From a page's bytes to the numbers that ColQwen2 reads, against its published processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ingestion.viewing.patch_grid import PatchGrid, patch_grid
from tests.support.tiny_checkpoints import page_pixels
from workers.embedding.visual.families.qwen2_pixels import ImageSizing, PatchCutter
from workers.embedding.visual.family import fitted_size

pytestmark = pytest.mark.usefixtures("one_torch_thread")

A4_AT_200_DPI = (2339, 1654)
CAP = 768
TOKEN_PX = 28

PILLOW_TOLERANCE = 0.032
"""Largest difference of a pixel value, where one step of 255 is 0.0146 to 0.0150: torch and Pillow round bicubic
weights differently. At most one value in a hundred differs at all."""

EQUAL = 1e-6
"""Where no size changes; the processor on Pillow scales and normalises in another order."""


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    """The published one, on Pillow."""
    return Qwen2VLImageProcessorPil.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def sizing(processor: Any) -> ImageSizing:
    return ImageSizing(processor, CAP)


def ours(processor: Any, sizing: ImageSizing, pixels: NDArray[np.uint8]) -> torch.Tensor:
    return PatchCutter(processor, torch.device("cpu")).cut(sizing.resize(pixels))


def published(processor: Any, pixels: NDArray[np.uint8]) -> Any:
    size = {"shortest_edge": 3136, "longest_edge": CAP * 784}
    return processor(images=[Image.fromarray(pixels)], size=size, return_tensors="pt")


@pytest.mark.parametrize("size_px", [A4_AT_200_DPI, (1169, 827), (40, 30), (300, 1000)])
def test_patches_are_those_of_the_published_processor(
    processor: Any, sizing: ImageSizing, size_px: tuple[int, int]
) -> None:
    pixels = page_pixels(*size_px)
    expected = published(processor, pixels)
    found = ours(processor, sizing, pixels)
    assert found.shape == expected["pixel_values"].shape
    assert sizing.grid(sizing.resize(pixels)) == tuple(expected["image_grid_thw"][0].tolist())
    differences = (found - expected["pixel_values"]).abs()
    assert differences.max() <= PILLOW_TOLERANCE
    assert (differences > EQUAL).float().mean() < 0.01


def test_patches_are_equal_without_resizing(processor: Any, sizing: ImageSizing) -> None:
    pixels = page_pixels(28 * 12, 28 * 9)
    assert (ours(processor, sizing, pixels) - published(processor, pixels)["pixel_values"]).abs().max() <= EQUAL


def test_an_a4_page_at_200_dpi_has_736_tokens(sizing: ImageSizing) -> None:
    picture = sizing.resize(page_pixels(*A4_AT_200_DPI))
    assert sizing.image_tokens(sizing.grid(picture)) == 736


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(1, 1200), st.integers(1, 1200))
def test_no_page_has_more_tokens_than_the_cap_and_none_has_no_size(
    sizing: ImageSizing, height_px: int, width_px: int
) -> None:
    grid = sizing.grid(sizing.resize(np.zeros((height_px, width_px, 3), np.uint8)))
    assert 1 <= sizing.image_tokens(grid) <= CAP


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.integers(1, 16_000), st.integers(1, 16_000))
def test_heat_maps_use_the_grid_of_the_model(sizing: ImageSizing, height_px: int, width_px: int) -> None:
    height, width = sizing.size(height_px, width_px)
    rows, columns = height // TOKEN_PX, width // TOKEN_PX
    assert patch_grid(CAP, width_px, height_px, rows * columns) == PatchGrid(rows, columns, 0)


def test_a_strip_beyond_the_defined_aspect_is_squeezed_and_not_refused(sizing: ImageSizing) -> None:
    assert 1 <= sizing.image_tokens(sizing.grid(sizing.resize(np.zeros((3, 16_000, 3), np.uint8)))) <= CAP


def test_a_view_that_is_not_contiguous_is_a_page_like_another(processor: Any, sizing: ImageSizing) -> None:
    pixels = page_pixels(200, 300)
    flipped = np.ascontiguousarray(pixels[:, ::-1])
    assert torch.equal(sizing.resize(pixels[:, ::-1]), sizing.resize(flipped))


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.integers(1, 16_000), st.integers(1, 16_000))
def test_the_fitted_size_is_that_of_the_model_or_of_the_image(
    sizing: ImageSizing, height_px: int, width_px: int
) -> None:
    fitted = fitted_size(sizing, height_px, width_px)
    assert sizing.size(*fitted) == sizing.size(height_px, width_px)
    assert fitted in (sizing.size(height_px, width_px), (height_px, width_px))
    if max(height_px, width_px) <= 50 * min(height_px, width_px):
        assert fitted == sizing.size(height_px, width_px)


def test_a_picture_that_was_scaled_before_is_not_scaled_again(sizing: ImageSizing) -> None:
    once = sizing.resize(page_pixels(700, 500))
    assert torch.equal(sizing.resize(once.numpy()), once)
