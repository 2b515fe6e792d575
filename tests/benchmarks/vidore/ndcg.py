"""nDCG as trec_eval's `ndcg_cut` computes it: linear gains, and an ideal ranking over all judged pages.

Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002. MTEB, in which the published
figures of ViDoRe were computed, uses pytrec_eval, which is trec_eval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2


def ndcg(ranked: Sequence[str], relevance: Mapping[str, int], cut: int) -> float:
    """nDCG@`cut` of the pages `ranked`, best first, of which each occurs once.

    `relevance`: the grade of each judged page. A page without a grade, or with one below 1, is not relevant. Returns 0
    where no page is relevant.
    """
    gains = [max(0, relevance.get(page, 0)) for page in ranked[:cut]]
    ideal = sorted((grade for grade in relevance.values() if grade > 0), reverse=True)[:cut]
    return _discounted(gains) / _discounted(ideal) if ideal else 0.0


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))
