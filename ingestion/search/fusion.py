"""Reciprocal rank fusion: one ranking of several.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ingestion.search.candidates import Candidate

_K: Final = 5
"""The larger it is, the more it counts that a page is in both rankings, and the less that it is the first of one.
With the 60 of the paper, pages with parts of an identifier hid the page that has the whole of it."""


def fused(*rankings: Sequence[tuple[Candidate, float]]) -> list[tuple[Candidate, float]]:
    """The pages of all rankings, best first: a page's score is the sum of 1 / (5 + rank), with ranks from 1.

    Of equal scores, the page of the earlier ranking comes first.
    """
    pages: dict[int, Candidate] = {}
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (page, _) in enumerate(ranking, start=1):
            pages.setdefault(page.page_key, page)
            scores[page.page_key] = scores.get(page.page_key, 0.0) + 1 / (_K + rank)
    return sorted(((pages[key], score) for key, score in scores.items()), key=lambda one: -one[1])
