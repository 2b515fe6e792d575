"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.candidates import Candidate
from ingestion.search.fusion import fused
from tests.support.documents import document

_KEYS = st.lists(st.integers(1, 20), unique=True, max_size=12)


def ranking(keys: list[int]) -> list[tuple[Candidate, float]]:
    return [(Candidate(key, key, document("d1")), 100.0 - rank) for rank, key in enumerate(keys)]


def keys_of(ranked: list[tuple[Candidate, float]]) -> list[int]:
    return [page.page_key for page, _ in ranked]


def test_a_page_in_both_rankings_comes_before_the_best_of_either() -> None:
    assert keys_of(fused(ranking([1, 2, 3]), ranking([4, 5, 3]))) == [3, 1, 4, 2, 5]


def test_the_score_is_the_sum_of_reciprocal_ranks() -> None:
    assert [score for _, score in fused(ranking([1]), ranking([2, 1]))] == pytest.approx([1 / 6 + 1 / 7, 1 / 6])


@given(_KEYS)
def test_one_ranking_keeps_its_order(keys: list[int]) -> None:
    assert keys_of(fused(ranking(keys), [])) == keys == keys_of(fused([], ranking(keys)))


@given(_KEYS, _KEYS)
def test_every_page_comes_once_and_scores_fall(one: list[int], other: list[int]) -> None:
    result = fused(ranking(one), ranking(other))
    assert sorted(keys_of(result)) == sorted({*one, *other})
    scores = [score for _, score in result]
    assert scores == sorted(scores, reverse=True)
