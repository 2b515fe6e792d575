"""Pages in the pipeline, and their records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingestion.model.notes import Note

ROWS_PER_PAGE: Final = 2048
"""The most vectors of a page: the primary key of a patch row is `page_key * ROWS_PER_PAGE + patch`."""
Vectors = NDArray[np.float32]
"""One page or one query: (tokens, dim) float32, each row of unit length."""
BlobPrecision: TypeAlias = Literal["bf16", "int8", "int4"]
"""The precision of the vectors that rerank pages."""


class TextSource(StrEnum):
    """Where the text of a page came from."""

    FILE = "file"
    """The text layer of the PDF."""
    OCR = "ocr"
    """The image of the page."""
    NONE = "none"
    """The page has no text."""


@dataclass(frozen=True, slots=True)
class TextPages:
    """The number of pages with text of each source. `unsearchable`: pages without vectors, which no search finds."""

    file: int = 0
    ocr: int = 0
    none: int = 0
    unsearchable: int = 0

    def plus(self, pages: Sequence[PageVectors]) -> TextPages:
        counts = Counter(entry.page.source_of_text for entry in pages)
        return TextPages(
            self.file + counts[TextSource.FILE],
            self.ocr + counts[TextSource.OCR],
            self.none + counts[TextSource.NONE],
            self.unsearchable + sum(not len(entry.vectors) for entry in pages),
        )


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
    text_source: TextSource = TextSource.FILE
    """Where `text` came from, if there is any."""
    notes: tuple[Note, ...] = ()
    words: bytes = field(default=b"", repr=False)
    """The words of `text` with their boxes: `ingestion.words.boxes`."""

    @property
    def source_of_text(self) -> TextSource:
        return self.text_source if self.text.strip() else TextSource.NONE


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
    text_source: str = ""
    """Where `text` came from: a TextSource. Empty in records of earlier releases."""
    words: bytes = field(default=b"", repr=False)
    """As in Page. Empty in records of earlier releases, and in records that are read without it."""
