"""Reciprocal rank fusion: one ranking of several.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ingestion.search.candidates import Candidate

_K: Final = 5
"""The larger it is, the more it counts that a page is in both rankings, and the less that it is the first of one.
With the 60 of the paper, pages with parts of an identifier hid the page that has the whole of it."""


Ranking = Sequence[tuple[Candidate, float]]


def fused(semantic: Ranking, lexical: Ranking, shares: Mapping[int, float]) -> list[tuple[Candidate, float]]:
    """The pages of both rankings, best first: a page's score is the sum of 1 / (5 + rank), with ranks from 1.

    The lexical part is multiplied by the share of the query's words that the page has, from `shares` by page key: a
    page that has only the common words of a question says little about it. Of equal scores, the page of the semantic
    ranking comes first.
    """
    pages: dict[int, Candidate] = {}
    scores: dict[int, float] = {}
    for ranking, weights in ((semantic, None), (lexical, shares)):
        for rank, (page, _) in enumerate(ranking, start=1):
            pages.setdefault(page.page_key, page)
            weight = 1.0 if weights is None else weights[page.page_key]
            scores[page.page_key] = scores.get(page.page_key, 0.0) + weight / (_K + rank)
    return sorted(((pages[key], score) for key, score in scores.items()), key=lambda one: -one[1])
