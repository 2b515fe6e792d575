"""Heat maps: how much each part of a page adds to its score, as numbers and as a picture to lay over the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ingestion.model import Vectors
from ingestion.vectors.blob import decode_blob
from ingestion.viewing.patch_grid import PatchGrid
from ingestion.words.boxes import SCALE, Box

_COLOUR: Final = (255, 98, 0)
_MOST_ALPHA: Final = 190
"""The page stays readable below the hottest part."""
_BOX_ALPHA: Final = 96


def heat_of(query: Vectors, blob: bytes, grid: PatchGrid) -> NDArray[np.float32]:
    """(rows, columns) from 0 to 1: MaxSim by patch, where 1 is the patch that answers the query best.

    For each patch, the largest similarity with a token of the query, above that token's mean on the page: a token that
    all of the page resembles, as those around a query, says nothing about a place. Raises ValueError where the blob
    cannot be read or has other dimensions.
    """
    patches = decode_blob(blob)[grid.first : grid.first + grid.rows * grid.columns]  # (patches, dim)
    if len(patches) != grid.rows * grid.columns or patches.shape[1] != query.shape[1]:
        raise ValueError(f"vectors of shape {patches.shape} do not fit the query and the grid")
    similar = patches @ query.T  # (patches, query tokens)
    above = (similar - similar.mean(axis=0)).max(axis=1, initial=0)  # (patches,)
    most = float(above.max())
    heat: NDArray[np.float32] = (above / most if most > 0 else above).astype(np.float32)
    return heat.reshape(grid.rows, grid.columns)


def heat_picture(heat: NDArray[np.float32], width_px: int, height_px: int) -> bytes:
    """A PNG of this size, transparent where the map is 0."""
    small = Image.fromarray((heat * _MOST_ALPHA).astype(np.uint8))
    alpha = small.resize((width_px, height_px), Image.Resampling.BICUBIC)
    return _png(alpha)


def boxes_picture(boxes: Sequence[Box], width_px: int, height_px: int) -> bytes:
    """A PNG of this size with the boxes marked, transparent elsewhere."""
    alpha = Image.new("L", (width_px, height_px))
    pencil = ImageDraw.Draw(alpha)
    for left, top, right, bottom in boxes:
        shown = (
            left * width_px // SCALE,
            top * height_px // SCALE,
            right * width_px // SCALE,
            bottom * height_px // SCALE,
        )
        pencil.rectangle(shown, fill=_BOX_ALPHA)
    return _png(alpha)


def _png(alpha: Image.Image) -> bytes:
    picture = Image.new("RGB", alpha.size, _COLOUR)
    picture.putalpha(alpha)
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=3)
    return written.getvalue()
