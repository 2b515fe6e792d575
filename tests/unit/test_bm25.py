"""Segments of terms, and BM25 over them, against a plain BM25."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.bm25 import JoinedTerms
from ingestion.terms.segment import TermSegment
from ingestion.terms.tokens import terms

_K1, _B = 1.2, 0.75
_TEXTS = st.lists(st.text(st.sampled_from("aab c d数据"), max_size=30), max_size=12)


def plain_bm25(texts: Sequence[str], query: Sequence[str]) -> list[float]:
    pages = [Counter(terms(text)) for text in texts]
    mean = sum(page.total() for page in pages) / max(1, len(pages))
    scores = []
    for page in pages:
        score = 0.0
        for term in set(query):
            having = sum(term in other for other in pages)
            weight = math.log(1 + (len(pages) - having + 0.5) / (having + 0.5))
            norm = _K1 * (1 - _B + _B * page.total() / max(mean, 1.0))
            score += weight * page[term] * (_K1 + 1) / (page[term] + norm) if page[term] else 0.0
        scores.append(score)
    return scores


def joined(*segments: Sequence[str] | None, lacking_pages: int = 0) -> JoinedTerms:
    made = [None if texts is None else TermSegment.of(texts) for texts in segments]
    return JoinedTerms.of(made, [one.pages if one is not None else lacking_pages for one in made])


def test_the_share_of_the_terms_counts_their_rarity() -> None:
    terms = joined(["a b", "a", "c"])
    shares = terms.scores_and_shares({"a": 1.0, "b": 1.0})[1]
    assert shares[0] == pytest.approx(1.0)
    assert 0 < shares[1] < 0.5  # the rarer term lacks
    assert shares[2] == 0
    assert terms.scores_and_shares({"a": 1.0, "unknown": 1.0})[1][0] < 0.5
    assert not terms.scores_and_shares({})[1].any()


@given(_TEXTS, _TEXTS, st.lists(st.sampled_from(["a", "b", "c", "数据", "aa", "x"]), max_size=4))
def test_scores_are_those_of_a_plain_bm25_over_all_segments(
    first: list[str], second: list[str], query: list[str]
) -> None:
    np.testing.assert_allclose(
        joined(first, second).scores(dict.fromkeys(query, 1.0)), plain_bm25(first + second, query), rtol=1e-5
    )


def test_a_weight_is_a_factor() -> None:
    one = joined(["a b", "b"])
    np.testing.assert_allclose(one.scores({"a": 0.5}), one.scores({"a": 1.0}) / 2)


def test_pages_of_a_segment_that_lacks_its_terms_have_no_score() -> None:
    scores = joined(["a b"], None, ["a"], lacking_pages=2).scores({"a": 1.0})
    assert [score > 0 for score in scores] == [True, False, False, True]


def test_a_collection_without_pages_has_no_scores() -> None:
    assert len(joined().scores({"a": 1.0})) == 0


@given(_TEXTS)
def test_a_segment_is_read_as_it_was_written(texts: list[str]) -> None:
    made = TermSegment.of(texts)
    read = TermSegment.decode(made.encode())
    for name in ("lengths", "codes", "counts", "page_indexes", "occurrences"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))


def test_a_term_on_each_of_64_pages_and_often_on_one_is_kept() -> None:
    segment = TermSegment.of(["word " * 300, *["word"] * 63])
    assert (segment.pages, segment.counts.tolist(), segment.occurrences[0]) == (64, [63], 255)
    assert segment.lengths[0] == 300


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"XXXX" + data[4:],
        lambda data: data[:4] + b"\x09" + data[5:],
        lambda data: data[:8] + b"\xff\xff\xff\xff" + data[12:],
        lambda data: data[:-4] + b"\x40" + data[-3:],
    ],
    ids=["empty", "short", "long", "another mark", "another format", "too many pages", "a page that there is not"],
)
def test_anything_else_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    data = TermSegment.of(["one", "two"]).encode()
    with pytest.raises(ValueError):
        TermSegment.decode(change(data))
