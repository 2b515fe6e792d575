"""nDCG of the ViDoRe benchmark, against an example computed by hand and an independent formula."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.vidore.ndcg import ndcg


def test_the_example_computed_by_hand() -> None:
    relevance = {"a": 2, "b": 1, "c": 1, "d": 0}
    ranked = ["b", "x", "a", "d", "c"]
    # Gains 1, 0, 2, 0, 1 at the ranks 1 to 5, whose discounts are 1, 1.58496, 2, 2.32193, 2.58496.
    # Found: 1 + 2 / 2 + 1 / 2.58496 = 2.38685. Ideal, gains 2, 1, 1: 2 + 1 / 1.58496 + 1 / 2 = 3.13093.
    assert ndcg(ranked, relevance, 5) == pytest.approx(2.38685 / 3.13093, abs=1e-5)
    # Only ranks 1 and 2. Found: 1. Ideal: 2 + 1 / 1.58496 = 2.63093.
    assert ndcg(ranked, relevance, 2) == pytest.approx(1 / 2.63093, abs=1e-5)


def test_the_ideal_ranking_is_cut_too() -> None:
    relevance = dict.fromkeys("abcdefg", 1)
    assert ndcg(["a", "b"], relevance, 2) == 1.0
    assert ndcg([], relevance, 5) == 0.0
    assert ndcg(["a"], {"b": -1, "a": 0}, 5) == 0.0


@given(
    grades=st.lists(st.integers(-1, 3), min_size=1, max_size=30),
    cut=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
    found=st.integers(0, 40),
)
def test_it_equals_the_matrix_formula(grades: list[int], cut: int, order: object, found: int) -> None:
    """Järvelin and Kekäläinen's discounted gain vectors with the base 2, as products of vectors."""
    pages = [f"page {number}" for number in range(len(grades) + 5)]  # five without a grade
    relevance = dict(zip(pages, grades, strict=False))
    order.shuffle(pages)  # type: ignore[attr-defined]
    ranked = pages[:found]
    discounts = 1 / np.log2(np.arange(2, cut + 2))
    gains = np.zeros(cut)
    of_ranked = [max(relevance.get(page, 0), 0) for page in ranked[:cut]]
    gains[: len(of_ranked)] = of_ranked
    ideal = np.zeros(cut)
    best = np.sort(np.maximum(grades, 0))[::-1][:cut]
    ideal[: len(best)] = best
    expected = gains @ discounts / (ideal @ discounts) if ideal.any() else 0.0
    assert ndcg(ranked, relevance, cut) == pytest.approx(expected)
    assert 0 <= ndcg(ranked, relevance, cut) <= 1 + 1e-12


def test_one_relevant_page_gives_the_discount_of_its_rank() -> None:
    assert ndcg(["x", "y", "right"], {"right": 1}, 5) == 1 / log2(4)
