"""How a page's vectors are kept: which of them the ANN index holds, and how precise the blob is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ingestion.model import BlobPrecision, PageVectors, Vectors
from ingestion.vectors import encode_blob

_BLOCK_VECTORS: Final = 256
"""Vectors that are pooled together. The work grows with the square of their number, and neighbours on the page, which
are most alike, are in the same block."""


@dataclass(frozen=True, slots=True)
class VectorEncoding:
    """`index_pooling` vectors become one row of the index. The blob, from which pages are reranked, keeps them all."""

    index_pooling: int = 1
    blob_precision: BlobPrecision = "bf16"

    def rows(self, entry: PageVectors) -> PageVectors:
        """The page as the index gets it. Pooling takes some milliseconds of CPU, too long for the event loop."""
        if self.index_pooling == 1 or not len(entry.vectors):
            return entry
        from ingestion.vector_pooling import pool  # SciPy behind it takes a third of a second to import

        starts = range(0, len(entry.vectors), _BLOCK_VECTORS)
        blocks = [pool(entry.vectors[start : start + _BLOCK_VECTORS], self.index_pooling) for start in starts]
        return replace(entry, vectors=np.concatenate(blocks))

    def blob(self, vectors: Vectors) -> bytes:
        return encode_blob(vectors, self.blob_precision)
