"""Pages in the pipeline, and their records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

ROWS_PER_PAGE: Final = 2048
"""The most vectors of a page: the primary key of a patch row is `page_key * ROWS_PER_PAGE + patch`."""
Vectors = NDArray[np.float32]
"""One page or one query: (tokens, dim) float32, each row of unit length."""
BlobPrecision: TypeAlias = Literal["bf16", "int8", "int4"]
"""The precision of the vectors that rerank pages."""


@dataclass(frozen=True, slots=True)
class Page:
    """One rendered page in the pipeline. `page_number` counts from 1.

    `image` is the encoded picture that is stored. `pixels` is the same picture as (height, width, 3) uint8 RGB. It is
    present only if the embedder needs pixels.
    """

    page_number: int
    width_px: int
    height_px: int
    image: bytes
    text: str
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)
    image_format: str = "webp"
    """The format of `image`: webp, png or jpeg. It is also the extension of the object's key."""


@dataclass(frozen=True, slots=True)
class PageVectors:
    """A page with its vectors, ready to be stored. `vectors` is (tokens, dim) float32, at most ROWS_PER_PAGE rows."""

    page: Page
    page_key: int
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class PageRecord:
    """A page's record in MongoDB. `patches` vectors are in its blob, `rows` vectors in the ANN index.

    `rows` is None in records of releases that had one row for each patch.
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
