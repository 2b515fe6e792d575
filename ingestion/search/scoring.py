"""Page scores from the rows that the ANN index returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ingestion.ports import Neighbours


@dataclass(frozen=True, slots=True)
class PageScores:
    """Pages by MaxSim over the rows that the ANN returned for each query token, less the same for every page."""

    page_keys: NDArray[np.int64]
    """(pages,) each once, best first, of equal ones the lowest key first."""
    scores: NDArray[np.float64]
    """(pages,)"""
    is_cut_off: bool
    """True where a token got as many rows as were asked for: the index may have more."""

    @classmethod
    def ranked(cls, page_keys: NDArray[np.int64], scores: NDArray[np.float64], *, is_cut_off: bool) -> Self:
        """From pages in ascending order of keys."""
        order = np.argsort(-scores, kind="stable")
        return cls(page_keys[order], scores[order], is_cut_off)


def page_scores(neighbours: Neighbours, limit: int) -> PageScores:
    """The pages of the rows; `limit` is how many were asked for.

    A page that a token did not reach gets that token's lowest returned score, an upper bound of its true one, as in
    XTR (Lee et al., 2023): otherwise a page would lose to others merely for having been cut off. So a page's score is
    the sum of all lowest scores, which is the same for every page and left out, and of what it has above them.
    """
    counts = neighbours.counts
    is_cut_off = bool((counts >= limit).any())
    if not len(neighbours.page_keys):
        return PageScores(np.empty(0, np.int64), np.empty(0), is_cut_off)
    products = neighbours.scores.astype(np.float64)  # (rows,)
    filled = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[filled]
    floors = np.minimum.reduceat(products, starts)  # (filled tokens,)
    token = np.repeat(np.arange(len(filled)), counts[filled])  # (rows,)
    keys, page = np.unique(neighbours.page_keys, return_inverse=True)  # (pages,), (rows,)
    pair = page * len(filled) + token  # (rows,) of a page and a token
    order = np.argsort(pair, kind="stable")
    firsts = np.flatnonzero(np.diff(pair[order], prepend=-1))  # (pairs,)
    best = np.maximum.reduceat(products[order], firsts)  # (pairs,)
    above = best - floors[token[order][firsts]]
    scores = _summed(page[order][firsts], above, len(keys))
    return PageScores.ranked(keys, scores, is_cut_off=is_cut_off)


def combined(parts: Sequence[PageScores]) -> PageScores:
    """The scores of a query that was sent in parts, each with some of its tokens."""
    if len(parts) == 1:
        return parts[0]
    keys, page = np.unique(np.concatenate([part.page_keys for part in parts]), return_inverse=True)
    weights = np.concatenate([part.scores for part in parts])
    scores = _summed(page, weights, len(keys))
    return PageScores.ranked(keys, scores, is_cut_off=any(part.is_cut_off for part in parts))


def _summed(page: NDArray[np.int64], weights: NDArray[np.float64], pages: int) -> NDArray[np.float64]:
    """(pages,) the sum of the weights of each page."""
    return np.bincount(page, weights=weights, minlength=pages).astype(np.float64, copy=False)


def approximate_scores(neighbours: Neighbours) -> list[int]:
    """Page keys, best first, as `page_scores` ranks them."""
    best: list[int] = page_scores(neighbours, limit=1).page_keys.tolist()
    return best
