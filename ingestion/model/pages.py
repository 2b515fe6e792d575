"""Pages on their way through the pipeline, and their records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

ROWS_PER_PAGE: Final = 2048
"""A patch row's primary key is `page_key * ROWS_PER_PAGE + patch`, so a page holds at most this many vectors."""
Vectors = NDArray[np.float32]
"""One page or one query: (tokens, dim) float32, each row of unit length."""
BlobPrecision: TypeAlias = Literal["bf16", "int8", "int4"]
"""Of the vectors from which pages are reranked."""


@dataclass(frozen=True, slots=True)
class Page:
    """One rendered page on its way through the pipeline; `page_number` counts from 1.

    `image` is the encoded picture that is kept, `pixels` the same picture as (height, width, 3) uint8 RGB, present
    only where the embedder looks at pixels.
    """

    page_number: int
    width_px: int
    height_px: int
    image: bytes
    text: str
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)
    image_format: str = "webp"
    """Of `image`: webp, png or jpeg, which is also how the name of its object ends."""


@dataclass(frozen=True, slots=True)
class PageVectors:
    """A page with its vectors, ready to be stored. `vectors` is (tokens, dim) float32, at most ROWS_PER_PAGE rows."""

    page: Page
    page_key: int
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class PageRecord:
    """What MongoDB keeps of a page. `patches` vectors are in its blob, `rows` are in the ANN index.

    `rows` is None in records from before the two could differ: then there is a row for each patch.
    """

    page_key: int
    document_id: str
    page_number: int
    width_px: int
    height_px: int
    patches: int
    image_key: str
    text: str
    rows: int | None = None
