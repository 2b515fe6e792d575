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
from itertools import accumulate
from typing import Any, Final, Self

import numkong
import numpy as np
from numpy.typing import NDArray

from ingestion.model import Vectors
from ingestion.vectors.sign_codes import Codes, CodeSegment, rotate

REFINED_PLANES: Final = 4
_STEPS: Final = {1: 1.596, 2: 0.996, 3: 0.586, 4: 0.335}
"""The step between levels that loses least, by planes, for normally distributed values of variance 1 (Max, 1960)."""
_ROW_BYTES: Final = 64
_COLUMNS: Final = 4
"""numkong compares rows of 64 bytes with four others more than twice as fast as rows of 48 bytes with two."""
_BLOCK_DISTANCES: Final = 2**20
"""Distances that are computed together: 4 MiB."""
_JOINED_PAGES: Final = 16
"""Codes of this many pages are scored at once, so that the fixed cost of a call does not count."""


def pad_codes(codes: Codes) -> Codes:
    """Codes with zeros up to a multiple of 64 bytes, which change no distance: the form in which they are compared."""
    short = -codes.shape[1] % _ROW_BYTES
    return np.pad(codes, ((0, 0), (0, short))) if short else codes


@dataclass(frozen=True, slots=True, eq=False)
class CodeQueries:
    """One or more queries as planes of bits."""

    starts: Sequence[int]
    """Of each query, the index of its first token among all tokens."""
    tokens: int
    """Of all queries together."""
    bits: int
    planes: int
    columns: int
    """Rows of each plane: the tokens, and zeros up to a multiple of _COLUMNS."""
    steps: NDArray[np.float32]
    """(tokens,) the difference of two levels."""
    packed: Any
    """(planes * columns, bytes of a padded code), the highest plane first, as numkong wants it."""

    @classmethod
    def of(cls, queries: Sequence[Vectors], planes: int) -> Self:
        """Each query is (tokens, dim), with at least one token."""
        values = rotate(np.concatenate(queries))  # (tokens, bits)
        most = 2**planes - 1
        steps = _STEPS[planes] * np.sqrt(np.square(values).mean(axis=1))  # (tokens,)
        rounded = np.floor(values / np.where(steps > 0, steps, 1)[:, None]) + (most + 1) / 2
        levels = np.clip(rounded, 0, most).astype(np.uint8)
        columns = -(-len(values) // _COLUMNS) * _COLUMNS
        bits = np.zeros((planes, columns, values.shape[1]), np.uint8)
        for number in range(planes):
            bits[number, : len(values)] = levels >> (planes - 1 - number) & 1
        packed = pad_codes(np.packbits(bits.reshape(planes * columns, -1), axis=1))
        starts = list(accumulate(map(len, queries[:-1]), initial=0))
        matrix = numkong.hammings_pack(packed, dtype="uint1")
        return cls(starts, len(values), values.shape[1], planes, columns, steps.astype(np.float32), matrix)

    @property
    def code_bytes(self) -> int:
        """Of a padded code."""
        return -(-self.bits // (8 * _ROW_BYTES)) * _ROW_BYTES

    def distances(self, codes: Codes) -> NDArray[np.uint32]:
        """(vectors, tokens): the weighted sums of Hamming distances. Does not hold the GIL."""
        distances = np.asarray(numkong.hammings_packed(codes, self.packed))  # (vectors, planes * columns)
        if self.planes == 1:
            return distances[:, : self.tokens]
        total = distances[:, : self.tokens].copy()
        for start in range(self.columns, distances.shape[1], self.columns):
            total <<= 1
            total += distances[:, start : start + self.tokens]
        return total

    def products(self, distances: NDArray[np.uint32]) -> NDArray[np.float32]:
        """The products of the query with signs, estimated from distances of the same shape, (..., tokens)."""
        largest = np.float32((2**self.planes - 1) / 2 * self.bits)
        products: NDArray[np.float32] = (largest - distances.astype(np.float32)) * self.steps
        return products


def code_scores(queries: CodeQueries, codes: Codes, counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores (pages, queries) of pages whose `counts` padded codes lie one after another in `codes`.

    A page without codes has -inf. Raises ValueError where the codes have another width than the queries.
    """
    if codes.shape[1] != queries.code_bytes:
        raise ValueError(f"sign codes of {codes.shape[1]} bytes do not fit queries of {queries.code_bytes}")
    scores = np.full((len(counts), len(queries.starts)), -np.inf, np.float32)
    ends = np.cumsum(counts)
    for first, last in _blocks(counts, _BLOCK_DISTANCES // (queries.planes * queries.columns)):
        start = int(ends[first] - counts[first])
        distances = queries.distances(codes[start : int(ends[last - 1])])
        filled = np.flatnonzero(counts[first:last]) + first
        nearest = np.minimum.reduceat(distances, ends[filled] - counts[filled] - start, axis=0)  # (filled, tokens)
        scores[filled] = np.add.reduceat(queries.products(nearest), queries.starts, axis=1)
    return scores


def best_first(scores: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """The positions of the `most` highest scores, best first, of equal ones the lowest position first."""
    if len(scores) > 4 * most:  # of many, sort only those that can be among the best
        least = np.partition(scores, len(scores) - most)[len(scores) - most]
        positions = np.flatnonzero(scores >= least)
        return positions[np.argsort(-scores[positions], kind="stable")][:most]
    return np.argsort(-scores, kind="stable")[:most]


def scan_scores(queries: CodeQueries, segments: Sequence[CodeSegment]) -> NDArray[np.float32]:
    """Scores (pages, queries) of all pages of these segments. Small segments are joined before they are scored."""
    scores = []
    for group in segment_groups(segments, _JOINED_PAGES):
        codes = group[0].codes if len(group) == 1 else np.concatenate([segment.codes for segment in group])
        scores.append(code_scores(queries, codes, np.concatenate([segment.counts for segment in group])))
    return np.concatenate(scores) if scores else np.empty((0, len(queries.starts)), np.float32)


def joined_scores(queries: CodeQueries, pages: Sequence[Codes]) -> NDArray[np.float32]:
    """Scores (pages, queries) of pages whose codes are `pages`."""
    scores = []
    for start in range(0, len(pages), _JOINED_PAGES):
        part = pages[start : start + _JOINED_PAGES]
        counts = np.array([len(codes) for codes in part], np.int64)
        scores.append(code_scores(queries, np.concatenate(part), counts))
    return np.concatenate(scores) if scores else np.empty((0, len(queries.starts)), np.float32)


def segment_groups(segments: Sequence[CodeSegment], pages: int) -> Iterator[Sequence[CodeSegment]]:
    """Slices of segments, in order, of at least `pages` pages each but for the last."""
    start = together = 0
    for end, segment in enumerate(segments, 1):
        together += segment.pages
        if together >= pages or end == len(segments):
            yield segments[start:end]
            start, together = end, 0


def _blocks(counts: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Slices of pages, in order, of about `most` vectors each, and of at least one page with vectors."""
    first = vectors = 0
    for last, count in enumerate(counts.tolist(), 1):
        vectors += count
        if vectors >= most or (last == len(counts) and vectors):
            yield first, last
            first, vectors = last, 0
