"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.candidates import Candidate
from ingestion.search.fusion import Ranking, fused
from tests.support.documents import document

_KEYS = st.lists(st.integers(1, 20), unique=True, max_size=12)


def ranking(keys: list[int]) -> list[tuple[Candidate, float]]:
    return [(Candidate(key, key, document("d1")), 100.0 - rank) for rank, key in enumerate(keys)]


def keys_of(ranked: Ranking) -> list[int]:
    return [page.page_key for page, _ in ranked]


def whole(semantic: Ranking, lexical: Ranking) -> list[tuple[Candidate, float]]:
    """Fused, where each page of the lexical ranking has all words of the query."""
    return fused(semantic, lexical, dict.fromkeys(keys_of(lexical), 1.0))


def test_a_page_with_a_small_share_of_the_words_counts_little() -> None:
    """A question in other words than the page: the best page by words has only the common ones."""
    semantic, lexical = ranking([1, 2, 3]), ranking([2, 1])
    assert keys_of(whole(semantic, lexical)) == [1, 2, 3]
    semantic, lexical = ranking([1, 2]), ranking([2, 4, 5])
    assert keys_of(whole(semantic, lexical))[0] == 2
    assert keys_of(fused(semantic, lexical, {2: 0.1, 4: 0.1, 5: 0.1}))[0] == 1


def test_a_page_in_both_rankings_comes_before_the_best_of_either() -> None:
    assert keys_of(whole(ranking([1, 2, 3]), ranking([4, 5, 3]))) == [3, 1, 4, 2, 5]


def test_the_score_is_the_sum_of_reciprocal_ranks() -> None:
    assert [score for _, score in whole(ranking([1]), ranking([2, 1]))] == pytest.approx([1 / 6 + 1 / 7, 1 / 6])


@given(_KEYS)
def test_one_ranking_keeps_its_order(keys: list[int]) -> None:
    assert keys_of(whole(ranking(keys), [])) == keys == keys_of(whole([], ranking(keys)))


@given(_KEYS, _KEYS)
def test_every_page_comes_once_and_scores_fall(one: list[int], other: list[int]) -> None:
    result = whole(ranking(one), ranking(other))
    assert sorted(keys_of(result)) == sorted({*one, *other})
    scores = [score for _, score in result]
    assert scores == sorted(scores, reverse=True)
