"""MaxSim, the late-interaction score of a page: the sum over query tokens of the best inner product with a page token.

Source: Khattab and Zaharia, ColBERT, 2020, equation 3. A page without tokens scores -inf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Self

import numkong
import numpy as np
from numpy.typing import NDArray

from ingestion.model import Vectors
from ingestion.vectors.blob import StoredVectors, open_blob

_BLOCK_VALUES: Final = 2**19
"""Values that are scored together: as float32 they fit into a core's own cache."""
_HIGHEST: Final = 127
_LEVELS: Final = 3
_STEPS: Final = 254
"""Rounding leaves at most half a step, which is at most 127 steps of the next level."""


def maxsim(query: Vectors, pages: Sequence[Vectors]) -> NDArray[np.float32]:
    """Scores (pages,) of `query` (query_tokens, dim), for pages of (tokens, dim) each."""
    lengths = [len(page) for page in pages]
    if not sum(lengths):
        return _best(np.empty((0, len(query)), np.float32), lengths)
    stacked = np.concatenate([page for page in pages if len(page)])  # (all_tokens, dim)
    return _best(stacked @ query.T, lengths)


def maxsim_of_blobs(query: Vectors, blobs: Sequence[bytes]) -> NDArray[np.float32]:
    """As `maxsim`, for pages given as blobs of any precision. Raises ValueError where one cannot be read.

    Integers are multiplied as integers, so that no page is converted: see `_IntegerQuery`.
    """
    pages = [open_blob(blob) for blob in blobs]
    dim = query.shape[1]
    if wrong := next((page for page in pages if len(page) and page.values.shape[1] != dim), None):
        raise ValueError(f"vectors of {wrong.values.shape[1]} dimensions do not fit a query of {dim}")
    scores = np.full(len(pages), -np.inf, np.float32)
    if not len(query):
        return scores
    integers = [i for i, page in enumerate(pages) if len(page) and page.scales is not None]
    if integers:
        integer_query = _IntegerQuery.of(query)
        scores[integers] = [integer_query.score(pages[i]) for i in integers]
    floats = [i for i, page in enumerate(pages) if len(page) and page.scales is None]
    scores[floats] = _scores_of_floats(query, [pages[i] for i in floats])
    return scores


@dataclass(frozen=True, slots=True, eq=False)
class _IntegerQuery:
    """A query as three int8 values for each of its own, each _STEPS times finer than the one before.

    Products with int8 values are exact, and together the three are as precise as float32.
    """

    scales: NDArray[np.float32]
    """(tokens,)"""
    packed: Any
    """(_LEVELS * tokens, dim) int8: the highest values of all tokens, then the next, as numkong wants them."""

    @classmethod
    def of(cls, query: Vectors) -> Self:
        scales = np.abs(query).max(axis=1) / np.float32(_HIGHEST)  # (tokens,)
        rest = query.astype(np.float64) / np.where(scales > 0, scales, 1)[:, None]
        levels = []
        for _ in range(_LEVELS):
            levels.append(np.rint(rest))
            rest = (rest - levels[-1]) * _STEPS
        return cls(scales, numkong.dots_pack(np.concatenate(levels).astype(np.int8), dtype="int8"))

    def score(self, page: StoredVectors) -> float:
        """MaxSim of a page with at least one vector. Does not hold the GIL during the products."""
        assert page.scales is not None
        products = np.asarray(numkong.dots_packed(page.values, self.packed)).astype(np.float32)
        tokens = len(self.scales)
        sums = products[:, -tokens:]  # (vectors, tokens): the finest level
        for end in range(products.shape[1] - tokens, 0, -tokens):
            sums /= _STEPS
            sums += products[:, end - tokens : end]
        sums *= page.scales[:, None]
        return float(np.dot(sums.max(axis=0), self.scales))


def _scores_of_floats(query: Vectors, pages: Sequence[StoredVectors]) -> NDArray[np.float32]:
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
    start = 0
    for page in block:
        page.write_unscaled(rows[start : start + len(page)])
        start += len(page)
    products: NDArray[np.float32] = rows @ query.T
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
