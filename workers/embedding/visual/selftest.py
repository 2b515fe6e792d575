"""Check a loaded ColQwen2 before its vectors are stored.

Each check catches a fault with which the model runs without an error but returns other vectors than the published one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ingestion.model import Page, Vectors
from workers.embedding.visual.inputs import ModelInput
from workers.embedding.visual.model import ColQwenModel
from workers.rendering.selftest import SelfTestFailed

TOLERANCES: Final = {"fp32": 1e-3, "bf16": 3e-2, "nf4": 3e-2}
"""Largest cosine distance of a vector between a page alone and the same page in a batch.

Rounding alone gives 1e-6, 1e-4 and 1e-4 for a shallow model, more for a deep one and with TF32. A page that attends
to its padding or uses its neighbour's positions is off by more than 0.05 in some of its vectors.
"""

_LENGTH_TOLERANCE: Final = 0.02
"""Largest error of a vector's length as the network returns it: in BF16 a unit vector has 0.996 to 1.004."""

_PAGE_SIZES_PX: Final = ((280, 196), (168, 364), (84, 84))
_QUERY: Final = "Which page shows the table of contents?"


def verify_model(model: ColQwenModel, precision: str) -> None:
    """Embed three pages and a query, alone and in one batch. Raises SelfTestFailed, OutOfMemory."""
    _check_weights(model.network)
    pages = [_page(number, *size_px) for number, size_px in enumerate(_PAGE_SIZES_PX, start=1)]
    inputs = [*map(model.prepare, pages), model.prepare(_QUERY)]
    with _recorded_positions(model.network) as recorded:
        alone = [_embed(model, [item]) for item in inputs]
    for item, positions in zip(inputs, recorded, strict=True):
        _check_positions(item, positions, model.network.config.vlm_config.image_token_id)
    together = _embed(model, inputs)
    _check_independence([vectors for one in alone for vectors in one], together, TOLERANCES[precision])


def _check_weights(network: Any) -> None:
    for part in ("embedding_proj_layer", "vlm.visual"):
        for name, weight in network.get_submodule(part).named_parameters():
            if not weight.dtype.is_floating_point:
                raise SelfTestFailed(f"{part}.{name} is quantised, but ColQwen2 works only if it is not")


def _check_positions(item: ModelInput, positions: Tensor | None, image_token: int) -> None:
    """The positions at the attention must count row and column from the first image token."""
    if item.image is None:
        return
    start = int((item.token_ids == image_token).nonzero()[0])
    rows, columns = item.grid[1] // 2, item.grid[2] // 2
    at = torch.arange(rows * columns)
    expected = start + torch.stack([torch.zeros_like(at), at // columns, at % columns])  # (3, image tokens)
    actual = None if positions is None else positions.cpu()[-3:, 0, start : start + len(at)]
    if actual is None or not torch.equal(actual, expected):
        raise SelfTestFailed("the model numbers image tokens like text: its positions are not multimodal (M-RoPE)")


def _check_independence(alone: Sequence[Vectors], together: Sequence[Vectors], tolerance: float) -> None:
    for one, same in zip(alone, together, strict=True):
        if one.shape != same.shape:
            raise SelfTestFailed(f"a page has {len(one)} vectors alone and {len(same)} in a batch")
        distance = 1 - float((one * same).sum(axis=1).min())
        if not distance <= tolerance:
            raise SelfTestFailed(
                "a page in a batch differs from the page alone: "
                f"cosine distance {distance:.2g}, allowed {tolerance:.2g}"
            )


def _check_lengths(raw: Tensor, inputs: Sequence[ModelInput]) -> None:
    for item, embeddings in zip(inputs, raw, strict=True):
        lengths = embeddings[: item.cost].norm(dim=-1)
        # This form fails for NaN too.
        if not bool(((lengths - 1).abs() <= _LENGTH_TOLERANCE).all()):
            raise SelfTestFailed(f"vectors are not of unit length: {lengths.min():.3g} to {lengths.max():.3g}")


def _embed(model: ColQwenModel, inputs: Sequence[ModelInput]) -> list[Vectors]:
    raw = model.forward(inputs)
    vectors = model.finish(raw, inputs)
    _check_lengths(raw, inputs)
    return vectors


@contextmanager
def _recorded_positions(network: Any) -> Iterator[list[Tensor | None]]:
    """Record the positions that reach the language model, one entry per forward."""
    recorded: list[Tensor | None] = []

    def record(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        recorded.append(kwargs.get("position_ids"))

    hook = network.vlm.language_model.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield recorded
    finally:
        hook.remove()


def _page(number: int, height_px: int, width_px: int) -> Page:
    """Noise, so that no two patches are equal; the lower half is nearly white."""
    pixels = np.random.default_rng(number).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    pixels[height_px // 2 :] |= 0xC0
    return Page(number, width_px, height_px, b"", "", pixels)
