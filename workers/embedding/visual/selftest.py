"""Check a loaded model before its vectors are stored. The checks are the same for every family.

Each check catches a fault with which the model runs without an error but returns other vectors than the published one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ingestion.model import ROWS_PER_PAGE, Page, Vectors
from workers.embedding.visual.family import Family, ModelInput
from workers.embedding.visual.model import VisualModel
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


def verify_model(model: VisualModel, precision: str) -> None:
    """Embed three pages and a query, alone and in one batch. Raises SelfTestFailed, OutOfMemory."""
    _check_weights(model)
    pages = [_page(number, *size_px) for number, size_px in enumerate(_PAGE_SIZES_PX, start=1)]
    inputs = [*map(model.prepare, pages), model.prepare(_QUERY)]
    alone = [_embed_and_check_positions(model, item) for item in inputs]
    _check_rows(alone)
    together = _embed(model, inputs)
    _check_independence(alone, together, TOLERANCES[precision])


def _check_weights(model: VisualModel) -> None:
    for part in model.family.not_quantised:
        for name, weight in model.network.get_submodule(part).named_parameters():
            if not weight.dtype.is_floating_point:
                raise SelfTestFailed(f"{part}.{name} is quantised, but {model.family.title} works only if it is not")


def _embed_and_check_positions(model: VisualModel, item: ModelInput) -> Vectors:
    with _recorded_positions(model) as recorded:
        (vectors,) = _embed(model, [item])
    if model.family.positions_at and item.image is not None:
        _check_positions(model.family, item, recorded[-1])
    return vectors


def _check_rows(items: Sequence[Vectors]) -> None:
    """A row's key has room for so many rows of a page: more would be written over those of the next page."""
    rows = max(map(len, items))
    if rows > ROWS_PER_PAGE:
        raise SelfTestFailed(
            f"a page has {rows} vectors, and Pagemill stores at most {ROWS_PER_PAGE}; set PAGEMILL_VISUAL_MAX_TOKENS "
            "or PAGEMILL_TOKEN_POOLING"
        )


def _check_positions(family: Family, item: ModelInput, positions: Tensor | None) -> None:
    start, expected = family.expected_positions(item)  # (axes, image tokens)
    actual = None if positions is None else positions.cpu()[:, start : start + expected.shape[1]]
    if actual is None or not torch.equal(actual, expected):
        raise SelfTestFailed(f"the network's positions of image tokens are not those of {family.title}")


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


def _embed(model: VisualModel, inputs: Sequence[ModelInput]) -> list[Vectors]:
    raw = model.forward(inputs)
    vectors = model.finish(raw, inputs)
    _check_lengths(raw, inputs)
    return vectors


@contextmanager
def _recorded_positions(model: VisualModel) -> Iterator[list[Tensor | None]]:
    """Record the positions that reach the family's module in each of its calls."""
    recorded: list[Tensor | None] = []
    family = model.family

    def record(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recorded.append(family.seen_positions(args, kwargs))

    if not family.positions_at:
        yield recorded
        return
    hook = model.network.get_submodule(family.positions_at).register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield recorded
    finally:
        hook.remove()


def _page(number: int, height_px: int, width_px: int) -> Page:
    """Noise, so that no two patches are equal; the lower half is nearly white."""
    pixels = np.random.default_rng(number).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    pixels[height_px // 2 :] |= 0xC0
    return Page(number, width_px, height_px, b"", "", pixels)
