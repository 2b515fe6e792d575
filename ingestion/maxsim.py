"""MaxSim, the late-interaction score of a page: the sum over query tokens of the best inner product with a page token.

Source: Khattab and Zaharia, ColBERT, 2020, equation 3. A page without tokens scores -inf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion.model import Vectors
from ingestion.vectors.blob import StoredVectors, open_blob

_BLOCK_VALUES: Final = 2**19
"""Values that are scored together: as float32 they fit into a core's own cache."""


def maxsim(query: Vectors, pages: Sequence[Vectors]) -> NDArray[np.float32]:
    """Scores (pages,) of `query` (query_tokens, dim), for pages of (tokens, dim) each."""
    lengths = [len(page) for page in pages]
    if not sum(lengths):
        return _best(np.empty((0, len(query)), np.float32), lengths)
    stacked = np.concatenate([page for page in pages if len(page)])  # (all_tokens, dim)
    return _best(stacked @ query.T, lengths)


def maxsim_of_blobs(query: Vectors, blobs: Sequence[bytes]) -> NDArray[np.float32]:
    """As `maxsim`, for pages given as blobs of any precision. Raises ValueError where one cannot be read.

    A page's scales are applied to its products, because there are far fewer products than values.
    """
    pages = [open_blob(blob) for blob in blobs]
    scores = np.empty(len(pages), np.float32)
    rows = np.empty((0, query.shape[1]), np.float32)  # reused by the next block
    for start, end in _blocks(pages):
        block = pages[start:end]
        tokens = sum(map(len, block))
        rows = rows if len(rows) >= tokens else np.empty((tokens, query.shape[1]), np.float32)
        scores[start:end] = _best(_products(query, block, rows[:tokens]), [len(page) for page in block])
    return scores


def _products(query: Vectors, block: Sequence[StoredVectors], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(tokens of the block, query_tokens). `rows`, (tokens of the block, dim), is written over."""
    starts = list(accumulate((len(page) for page in block), initial=0))
    for page, start in zip(block, starts, strict=False):
        page.write_unscaled(rows[start : start + len(page)])
    products: NDArray[np.float32] = rows @ query.T
    for page, start in zip(block, starts, strict=False):
        if page.scales is not None:
            products[start : start + len(page)] *= page.scales[:, None]
    return products


def _blocks(pages: Sequence[StoredVectors]) -> Iterator[tuple[int, int]]:
    """Slices of `pages`, in order, of about _BLOCK_VALUES each."""
    start = values = 0
    for end, page in enumerate(pages, 1):
        values += page.values.size
        if values >= _BLOCK_VALUES or end == len(pages):
            yield start, end
            start, values = end, 0


def _best(products: NDArray[np.float32], lengths: Sequence[int]) -> NDArray[np.float32]:
    """(all_tokens, query_tokens), the number of tokens of each page -> (pages,)."""
    scores = np.full(len(lengths), -np.inf, dtype=np.float32)
    filled = [i for i, length in enumerate(lengths) if length]
    if filled and products.shape[1]:
        starts = list(accumulate((lengths[i] for i in filled[:-1]), initial=0))
        scores[filled] = np.maximum.reduceat(products, starts, axis=0).sum(axis=1)
    return scores
