"""BM25 over the terms of many segments of pages.

BM25 as in Lucene: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with the
inverse document frequency that is never below zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingestion.terms.segment import TermSegment, term_code

U = TypeVar("U", bound=np.unsignedinteger)

_K1: Final = 1.2
_B: Final = 0.75


@dataclass(frozen=True, eq=False)
class JoinedTerms:
    """The segments of a collection in one. Pages count from 0, those of the first segment first."""

    lengths: NDArray[np.uint32]
    """(pages,)"""
    codes: NDArray[np.uint32]
    """(entries,) an entry for each term of each segment."""
    first_postings: NDArray[np.uint32]
    """(entries + 1,) where the postings of an entry begin."""
    entry_starts: NDArray[np.int64]
    """(segments,) the first entry of each segment."""
    page_starts: NDArray[np.int64]
    """(segments,) the first page of each segment."""
    page_indexes: NDArray[np.uint8]
    """(postings,) within the segment."""
    occurrences: NDArray[np.uint8]
    """(postings,)"""

    @classmethod
    def of(cls, segments: Sequence[TermSegment | None], pages: Sequence[int]) -> Self:
        """`pages`: the number of pages of each segment. One that is None has pages without terms."""
        found = [segment or _without_terms(count) for segment, count in zip(segments, pages, strict=True)]
        counts = _concatenated([segment.counts for segment in found], np.uint8)
        return cls(
            _concatenated([segment.lengths for segment in found], np.uint32),
            _concatenated([segment.codes for segment in found], np.uint32),
            np.cumsum(np.concatenate([[0], counts.astype(np.uint32) + np.uint32(1)]), dtype=np.uint32),
            _starts([len(segment.codes) for segment in found]),
            _starts(pages),
            _concatenated([segment.page_indexes for segment in found], np.uint8),
            _concatenated([segment.occurrences for segment in found], np.uint8),
        )

    @property
    def size_bytes(self) -> int:
        """Of all parts, and of the norms, which the first query makes."""
        parts = (
            self.codes, self.first_postings, self.entry_starts, self.page_starts, self.page_indexes, self.occurrences,
            self.lengths, self._norms,
        )  # fmt: skip
        return sum(part.nbytes for part in parts)

    @cached_property
    def _norms(self) -> NDArray[np.float32]:
        """(pages,) the part of the denominator that depends on the length of a page."""
        mean = float(self.lengths.mean()) if len(self.lengths) else 1.0
        norms = _K1 * (1 - _B + _B * self.lengths / max(mean, 1.0))
        return np.asarray(norms, np.float32)

    def scores(self, terms: Mapping[str, float]) -> NDArray[np.float32]:
        """(pages,) the BM25 score of each page for terms with their weights; 0 for pages with none of them."""
        return self.scores_and_shares(terms)[0]

    def scores_and_shares(self, terms: Mapping[str, float]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(pages,) twice: the BM25 scores, and the share of the terms that a page has, each by weight and rarity.

        A term that no page has is the rarest. A share is 1 where the page has all terms.
        """
        scores, shares = np.zeros((2, len(self.lengths)), np.float32)
        whole = 0.0
        for term, weight in terms.items():
            pages, occurrences = self._postings(term_code(term))
            rarity = weight * math.log(1 + (len(self.lengths) - len(pages) + 0.5) / (len(pages) + 0.5))
            whole += rarity
            scores[pages] += rarity * (_K1 + 1) * occurrences / (occurrences + self._norms[pages])
            shares[pages] += rarity
        return scores, shares / np.float32(whole or 1.0)

    def _postings(self, code: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The pages with the term, each once, and how often it occurs there."""
        entries = np.flatnonzero(self.codes == np.uint32(code))
        starts = self.first_postings[entries].astype(np.int64)
        counts = self.first_postings[entries + 1].astype(np.int64) - starts
        ends = np.cumsum(counts)
        postings = np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)
        segments = np.searchsorted(self.entry_starts, entries, side="right") - 1
        pages = np.repeat(self.page_starts[segments], counts) + self.page_indexes[postings]
        return pages, self.occurrences[postings].astype(np.float32)


def _without_terms(pages: int) -> TermSegment:
    nothing = np.empty(0, np.uint8)
    return TermSegment(np.zeros(pages, np.uint32), np.empty(0, np.uint32), nothing, nothing, nothing)


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.array([0, *accumulate(counts)][:-1], np.int64)


def _concatenated(parts: Sequence[NDArray[U]], dtype: type[U]) -> NDArray[U]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
