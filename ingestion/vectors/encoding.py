"""The stored form of a page's vectors: the rows of the ANN index, and the precision of the blob."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ingestion.model import BlobPrecision, PageVectors, Vectors
from ingestion.vectors.blob import encode_blob

_BLOCK_VECTORS: Final = 256
"""So many vectors are pooled together. The work grows with the square of their number. Neighbours on the page are the
most alike, and they are in the same block."""


@dataclass(frozen=True, slots=True)
class VectorEncoding:
    """`index_pooling` vectors become one row of the index. The blob keeps all vectors, for reranking."""

    index_pooling: int = 1
    blob_precision: BlobPrecision = "bf16"

    def rows(self, entry: PageVectors) -> PageVectors:
        """The page with the vectors of the index. Pooling takes milliseconds of CPU, too long for the event loop."""
        if self.index_pooling == 1 or not len(entry.vectors):
            return entry
        from ingestion.vectors.pooling import pool  # SciPy behind it takes a third of a second to import

        starts = range(0, len(entry.vectors), _BLOCK_VECTORS)
        blocks = [pool(entry.vectors[start : start + _BLOCK_VECTORS], self.index_pooling) for start in starts]
        return replace(entry, vectors=np.concatenate(blocks))

    def blob(self, vectors: Vectors) -> bytes:
        return encode_blob(vectors, self.blob_precision)
