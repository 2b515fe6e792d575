"""Which part of a page each vector of ColQwen2 stands for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from ingestion.errors import NoPatchGrid, PooledVectors
from ingestion.model import ROWS_PER_PAGE

_VISUAL: Final = re.compile(r"colqwen2/.*/tokens-(?P<tokens>\d+)/pool-(?P<pooling>\d+)/")
"""Fingerprints of the visual embedder: see `workers.embedding.visual.embedder.fingerprint`."""
_OTHER_VISUAL: Final = ("colpali/", "colmodernvbert/", "neomme/")
_TOKEN_PX: Final = 28
"""Side of the square that becomes one image token: 2 x 2 patches of 14 pixels. This number and those below are the
published processor's."""
_MIN_PX: Final = 3136
_PROMPT_BEFORE: Final = 4
_PROMPT_TOKENS: Final = 11
"""Tokens of the prompt before the image, and in all. PAGEMILL_VISUAL_PROMPT_TOKENS=keep stores their vectors too."""
_MAX_ASPECT: Final = 200


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Vector `first + row * columns + column` of a page stands for that part of its image."""

    rows: int
    columns: int
    first: int


def most_tokens(fingerprint: str) -> int:
    """The most image tokens of a page of this embedder.

    Raises NoPatchGrid where the embedder is not ColQwen2, PooledVectors where it merges vectors.
    """
    visual = _VISUAL.match(fingerprint)
    if fingerprint.startswith(_OTHER_VISUAL):
        family = fingerprint.partition("/")[0]
        raise NoPatchGrid(f"the collection's vectors are those of {family}; heat maps are drawn for colqwen2 alone")
    if visual is None:
        raise NoPatchGrid("the collection's vectors are those of words, not of parts of the page's image")
    if int(visual["pooling"]) > 1:
        raise PooledVectors(
            f"the collection's vectors are merged, {visual['pooling']} into one, and have no place on the page; "
            "ingest with PAGEMILL_TOKEN_POOLING=1 for heat maps"
        )
    return min(int(visual["tokens"]), ROWS_PER_PAGE - _PROMPT_TOKENS)


def patch_grid(most: int, width_px: int, height_px: int, vectors: int) -> PatchGrid:
    """The grid of a page with so many vectors, whose stored image has this size. `most` is that of `most_tokens`.

    The grid depends on the size of the image only, so that it need not be stored. Raises NoPatchGrid where the number
    of vectors does not fit.
    """
    rows, columns = _grid(height_px, width_px, most * _TOKEN_PX**2)
    first = {rows * columns: 0, rows * columns + _PROMPT_TOKENS: _PROMPT_BEFORE}.get(vectors)
    if first is None:
        raise NoPatchGrid(f"the page has {vectors} vectors, which do not fit a grid of {rows} x {columns}")
    return PatchGrid(rows, columns, first)


def _grid(height_px: int, width_px: int, max_px: int) -> tuple[int, int]:
    """Rows and columns. `smart_resize` of Qwen2-VL, as `workers.embedding.visual.families.qwen2_pixels` calls it.

    A test compares the two.
    """
    least_px = max(1, -(-max(height_px, width_px) // _MAX_ASPECT))
    height_px, width_px = max(height_px, least_px), max(width_px, least_px)
    rows, columns = round(height_px / _TOKEN_PX), round(width_px / _TOKEN_PX)
    if rows * columns * _TOKEN_PX**2 > max_px:
        scale = math.sqrt(height_px * width_px / max_px)
        rows = max(1, math.floor(height_px / scale / _TOKEN_PX))
        columns = max(1, math.floor(width_px / scale / _TOKEN_PX))
    elif rows * columns * _TOKEN_PX**2 < _MIN_PX:
        scale = math.sqrt(_MIN_PX / (height_px * width_px))
        rows = math.ceil(height_px * scale / _TOKEN_PX)
        columns = math.ceil(width_px * scale / _TOKEN_PX)
    return rows, columns
