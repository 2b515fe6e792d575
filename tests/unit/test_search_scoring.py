"""What the ANN's answer says about pages, and snippets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.candidates import approximate_scores
from ingestion.search.snippets import snippet


def test_pages_are_ordered_by_the_sum_of_their_best_rows() -> None:
    neighbours = [[(1, 0.9), (2, 0.8), (1, 0.7)], [(2, 0.9), (1, 0.1)]]
    assert approximate_scores(neighbours) == [2, 1]


def test_a_page_that_was_cut_off_gets_the_lowest_score_and_not_nothing() -> None:
    # Page 3 is close to the only token that reached it; page 2 is far from both.
    neighbours = [[(1, 0.9), (2, 0.5)], [(1, 0.9), (3, 0.8), (2, 0.5)]]
    assert approximate_scores(neighbours) == [1, 3, 2]


def test_no_rows_give_no_pages() -> None:
    assert approximate_scores([]) == []
    assert approximate_scores([[], []]) == []


@given(st.lists(st.lists(st.tuples(st.integers(1, 9), st.floats(-1, 1)), max_size=9), max_size=5))
def test_every_page_that_was_reached_is_ranked_once(neighbours: list[list[tuple[int, float]]]) -> None:
    ranked = approximate_scores(neighbours)
    assert sorted(ranked) == sorted({page for rows in neighbours for page, _ in rows})


def test_a_snippet_shows_where_the_words_stand() -> None:
    text = "nothing here " * 50 + "the brew group must be descaled monthly " + "nor here " * 50
    found = snippet(text, "descaled brew group")
    assert "brew group must be descaled" in found
    assert found.startswith("…") and found.endswith("…")


@given(st.text(), st.text())
def test_a_snippet_is_one_short_line(text: str, query: str) -> None:
    found = snippet(text, query)
    assert len(found) <= 242
    assert "\n" not in found
