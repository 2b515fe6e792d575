"""The second stage of a search: rank pages by MaxSim between the query and sign codes.

A code stands for a vector of signs s, +1 or -1 for each dimension. The product of a query token q and s is estimated
from Hamming distances alone. q is rounded to levels of `planes` bits, and plane b holds bit b of all its dimensions.
With h(b) the Hamming distance between plane b and the code, and d the number of bits of a code:

    q . s  is about  step * ((2 ** planes - 1) / 2 * d - sum over b of 2 ** b * h(b))

One plane is the plain Hamming distance between two sign codes. More planes cost more and rank better. So all pages are
ranked with one plane, and the best of them once more with REFINED_PLANES.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numkong
import numpy as np
from numpy.typing import NDArray

from ingestion.model import Vectors
from ingestion.vectors.sign_codes import Codes, CodeSegment, rotate

REFINED_PLANES: Final = 4
_STEPS: Final = {1: 1.596, 2: 0.996, 3: 0.586, 4: 0.335}
"""The step between levels that loses least, by planes, for normally distributed values of variance 1 (Max, 1960)."""
_BLOCK_DISTANCES: Final = 2**20
"""Distances that are computed together: 4 MiB."""
_JOINED_PAGES: Final = 16
"""Codes of this many pages are scored at once, so that the fixed cost of a call does not count."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeQuery:
    """A query as planes of bits."""

    tokens: int
    bits: int
    planes: int
    steps: NDArray[np.float32]
    """(tokens,) the difference of two levels."""
    packed: Any
    """(planes * tokens, bytes of a code), the highest plane first, as numkong wants it."""

    @classmethod
    def of(cls, query: Vectors, planes: int) -> Self:
        """`query` is (tokens, dim), with at least one token."""
        values = rotate(query)  # (tokens, bits)
        most = 2**planes - 1
        steps = _STEPS[planes] * np.sqrt(np.square(values).mean(axis=1))  # (tokens,)
        rounded = np.floor(values / np.where(steps > 0, steps, 1)[:, None]) + (most + 1) / 2
        levels = np.clip(rounded, 0, most).astype(np.uint8)
        each = [levels >> number & 1 for number in reversed(range(planes))]
        packed = numkong.hammings_pack(np.packbits(np.concatenate(each), axis=1), dtype="uint1")
        return cls(len(query), values.shape[1], planes, steps.astype(np.float32), packed)

    def distances(self, codes: Codes) -> NDArray[np.uint32]:
        """(vectors, tokens): the weighted sums of Hamming distances. Does not hold the GIL."""
        planes = np.asarray(numkong.hammings_packed(codes, self.packed))  # (vectors, planes * tokens)
        if self.planes == 1:
            return planes
        total = planes[:, : self.tokens].copy()
        for start in range(self.tokens, planes.shape[1], self.tokens):
            total <<= 1
            total += planes[:, start : start + self.tokens]
        return total

    def products(self, distances: NDArray[np.uint32]) -> NDArray[np.float32]:
        """The products of the query with signs, estimated from distances of the same shape, (..., tokens)."""
        largest = np.float32((2**self.planes - 1) / 2 * self.bits)
        products: NDArray[np.float32] = (largest - distances.astype(np.float32)) * self.steps
        return products


def code_scores(query: CodeQuery, codes: Codes, counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores of pages, (pages,), whose `counts` codes lie one after another in `codes`.

    A page without codes has -inf. Raises ValueError where the codes have another width than the query.
    """
    if codes.shape[1] != (query.bits + 7) // 8:
        raise ValueError(f"sign codes of {codes.shape[1]} bytes do not fit a query of {query.bits} bits")
    scores = np.full(len(counts), -np.inf, np.float32)
    ends = np.cumsum(counts)
    for first, last in _blocks(counts, _BLOCK_DISTANCES // (query.planes * query.tokens)):
        start = int(ends[first] - counts[first])
        distances = query.distances(codes[start : int(ends[last - 1])])
        filled = np.flatnonzero(counts[first:last]) + first
        nearest = np.minimum.reduceat(distances, ends[filled] - counts[filled] - start, axis=0)  # (filled, tokens)
        scores[filled] = query.products(nearest).sum(axis=1)
    return scores


def best_first(scores: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """The positions of the `most` highest scores, best first, of equal ones the lowest position first."""
    if len(scores) > 4 * most:  # of many, sort only those that can be among the best
        least = np.partition(scores, len(scores) - most)[len(scores) - most]
        positions = np.flatnonzero(scores >= least)
        return positions[np.argsort(-scores[positions], kind="stable")][:most]
    return np.argsort(-scores, kind="stable")[:most]


def scan_scores(query: CodeQuery, segments: Sequence[CodeSegment]) -> NDArray[np.float32]:
    """The scores of all pages of these segments, (pages,). Small segments are joined before they are scored."""
    scores = []
    for group in _joined_groups(segments):
        codes = group[0].codes if len(group) == 1 else np.concatenate([segment.codes for segment in group])
        scores.append(code_scores(query, codes, np.concatenate([segment.counts for segment in group])))
    return np.concatenate(scores) if scores else np.empty(0, np.float32)


def joined_scores(query: CodeQuery, pages: Sequence[Codes]) -> NDArray[np.float32]:
    """The scores of pages whose codes are `pages`, (pages,)."""
    scores = []
    for start in range(0, len(pages), _JOINED_PAGES):
        part = pages[start : start + _JOINED_PAGES]
        counts = np.array([len(codes) for codes in part], np.int64)
        scores.append(code_scores(query, np.concatenate(part), counts))
    return np.concatenate(scores) if scores else np.empty(0, np.float32)


def _joined_groups(segments: Sequence[CodeSegment]) -> Iterator[Sequence[CodeSegment]]:
    """Slices of segments, in order: each large one alone, small ones together up to _JOINED_PAGES pages."""
    start = pages = 0
    for end, segment in enumerate(segments, 1):
        pages += segment.pages
        if pages >= _JOINED_PAGES or end == len(segments):
            yield segments[start:end]
            start, pages = end, 0


def _blocks(counts: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Slices of pages, in order, of about `most` vectors each, and of at least one page with vectors."""
    first = vectors = 0
    for last, count in enumerate(counts.tolist(), 1):
        vectors += count
        if vectors >= most or (last == len(counts) and vectors):
            yield first, last
            first, vectors = last, 0
