"""What the ANN's answer says about pages, and snippets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.catalogue.generations import Generation
from ingestion.model import Document, DocumentState, PageRecord, Vectors
from ingestion.ports import Neighbours, VectorStore
from ingestion.search.admission import Admission
from ingestion.search.candidates import CandidateQuery, CandidateRecords, Candidates
from ingestion.search.coalescing import SearchCoalescer
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.scoring import approximate_scores, combined, page_scores
from ingestion.search.snippets import _densest, snippet
from tests.support.documents import document, page
from tests.support.nearest import neighbours


def test_pages_are_ordered_by_the_sum_of_their_best_rows() -> None:
    rows = [[(1, 0.9), (2, 0.8), (1, 0.7)], [(2, 0.9), (1, 0.1)]]
    assert approximate_scores(neighbours(rows)) == [2, 1]


def test_a_page_that_was_cut_off_gets_the_lowest_score_and_not_nothing() -> None:
    # Page 3 is close to the only token that reached it; page 2 is far from both.
    rows = [[(1, 0.9), (2, 0.5)], [(1, 0.9), (3, 0.8), (2, 0.5)]]
    assert approximate_scores(neighbours(rows)) == [1, 3, 2]


def test_no_rows_give_no_pages() -> None:
    assert approximate_scores(neighbours([])) == []
    assert approximate_scores(neighbours([[], []])) == []


# Sums of 64ths are exact in any order, so that equal scores are equal.
ROWS = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.integers(-64, 64).map(lambda n: n / 64)), max_size=9), max_size=6
)


def by_definition(rows: list[list[tuple[int, float]]]) -> list[int]:
    """Each page's sum over tokens of its best row, or of the token's lowest where it has none; the best first."""
    pages = {page for token in rows for page, _ in token}

    def score(page: int) -> float:
        own = [[value for key, value in token if key == page] for token in rows]
        return sum(
            max(best or [min((value for _, value in token), default=0.0)])
            for best, token in zip(own, rows, strict=True)
        )

    return sorted(pages, key=lambda page: (-score(page), page))


@given(ROWS)
def test_pages_are_ranked_as_the_definition_says(rows: list[list[tuple[int, float]]]) -> None:
    assert approximate_scores(neighbours(rows)) == by_definition(rows)


@given(ROWS, st.integers(1, 6))
def test_a_query_asked_for_in_parts_is_ranked_as_in_one(rows: list[list[tuple[int, float]]], tokens: int) -> None:
    whole = neighbours(rows)
    parts = [whole.of_tokens(i, min(i + tokens, len(rows))) for i in range(0, max(len(rows), 1), tokens)]
    found = combined([page_scores(part, limit=9) for part in parts])
    assert found.page_keys.tolist() == by_definition(rows)
    assert found.is_cut_off == any(len(token) == 9 for token in rows)


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


@given(st.text("ab .", max_size=2000), st.sampled_from(["aaa bbb", "aaa", "abab bbb aab"]))
def test_a_snippet_holds_as_many_of_the_words_as_any_stretch_of_its_length(text: str, query: str) -> None:
    line = " ".join(text.split())
    places = [(found.start(), found.group()) for found in re.finditer(r"\w+", line) if found.group() in query.split()]

    def words_from(start: int) -> int:
        return len({word for at, word in places if start <= at < start + 240})

    most = max((words_from(at) for at, _ in places), default=0)
    assert words_from(_densest(places)) == most


READY = replace(document("ready"), state=DocumentState.READY, pages=20, first_page_key=1)
OTHERS = range(1_000, 20_000)


class Rows:
    """An index in which pages of documents that are not ready come first. It records its requests."""

    def __init__(self, others: int, rows_a_page: int = 1) -> None:
        better = [(key, 0.9) for key in OTHERS[:others]]
        self._rows = (better + [(key, 0.8) for key in READY.page_keys]) * rows_a_page
        self.asked: list[int] = []

    async def search(self, index: str, query: Vectors, limit: int, **_: object) -> Neighbours:
        self.asked.append(limit)
        return neighbours([self._rows[:limit] for _ in query])


class Records:
    """One ready document, and page records of one that is not."""

    async def pages_by_key(self, page_keys: Sequence[int]) -> dict[int, PageRecord]:
        return {key: page(key, "ready" if key in READY.page_keys else "other") for key in page_keys}

    async def ready_documents(self, ids: set[str]) -> dict[str, Document]:
        return {READY.id: READY} if READY.id in ids else {}


async def found_among(rows: Rows, needed: int = 1) -> int:
    index = SearchCoalescer(cast(VectorStore, rows), 4, CpuThreads())
    candidates = Candidates(index, cast(CandidateRecords, Records()))
    query, wanted = np.ones((5, 4), np.float32), CandidateQuery(128, 128, 200, needed=needed)
    with Admission(1_000_000).admit(0) as place:
        return len(await candidates.find("c", Generation(1, "f", 4), query, wanted, place))


@pytest.mark.parametrize("others", [0, 1, 400, 520, 5_000])
async def test_ready_pages_are_found_behind_any_number_of_pages_that_are_not_ready(others: int) -> None:
    assert await found_among(Rows(others)) == len(READY.page_keys)


@pytest.mark.parametrize(("needed", "asked"), [(1, [200]), (8, [200]), (9, [200, 800])])
async def test_where_all_rows_are_of_few_pages_more_are_asked_for_if_more_pages_are_needed(
    needed: int, asked: list[int]
) -> None:
    rows = Rows(others=0)
    rows._rows = [row for row in rows._rows for _ in range(25)]  # 200 rows of 8 pages come first
    assert await found_among(rows, needed) == (8 if asked == [200] else 20)
    assert rows.asked == asked


async def test_an_index_that_has_no_further_pages_is_not_asked_for_more_and_more_rows() -> None:
    rows = Rows(others=1, rows_a_page=1_000)
    assert await found_among(rows) == len(READY.page_keys)
    assert rows.asked == [200, 800]
