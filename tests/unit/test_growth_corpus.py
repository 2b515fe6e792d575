"""The pages and questions of the benchmark of a growing collection."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.growth.corpus import Corpus
from tests.benchmarks.growth.exact import ExactScores
from tests.benchmarks.growth.projection import Projection
from tests.benchmarks.manuals import QUESTIONS_FILE, vectors_folder
from tests.support.manual import make_manual

_EMPTY = {1, 2, 66}


@pytest.fixture
def manuals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two manuals with 67 and 10 pages with text."""
    monkeypatch.setenv("PAGEMILL_BENCH_VECTORS", str(tmp_path / "vectors"))
    paths = [tmp_path / "first.pdf", tmp_path / "second.pdf"]
    for path, pages in zip(paths, (70, 10), strict=True):
        make_manual(path, pages, without_text=_EMPTY if pages > 10 else ())
    return paths


def test_pages_without_text_are_left_out_and_the_others_keep_their_numbers(manuals: list[Path]) -> None:
    corpus = Corpus(manuals, 72)
    expected = [("first.pdf", number) for number in range(1, 71) if number not in _EMPTY]
    expected += [("second.pdf", number) for number in range(1, 6)]
    assert corpus.names == expected
    for start, end in [(0, 72), (10, 64), (60, 70)]:
        read = [page for pages in corpus.read(start, end) for page in pages]
        assert [(page.manual, page.page_number) for page in read] == expected[start:end]
        assert [page.text for page in read] == [f"This is page {number}." for _, number in expected[start:end]]


def test_questions_are_about_loaded_pages_and_stay_the_same(manuals: list[Path]) -> None:
    corpus = Corpus(manuals, 72)
    for size in (16, 72):
        asked = corpus.questions(size, 10)
        assert len(asked) == 10
        assert {(q.manual, q.page_number) for q in asked} <= set(corpus.names[:size])
        assert [q.text for q in Corpus(manuals, 72).questions(size, 10)] == [q.text for q in asked]


def test_exact_scores_find_the_right_page_of_every_title(manuals: list[Path]) -> None:
    corpus = Corpus(manuals, 72)
    questions = corpus.questions(72, 72)
    exact = ExactScores(questions)
    for pages in corpus.read(0, 72):
        exact.add(pages)
    assert [exact.best(q, 1) for q in questions] == [[(q.manual, q.page_number)] for q in questions]


def test_projected_vectors_have_unit_length_and_another_fingerprint(manuals: list[Path]) -> None:
    corpus = Corpus(manuals, 20, dim=128)
    vectors = [page.vectors for pages in corpus.read(0, 20) for page in pages]
    vectors += [question.vectors for question in corpus.questions(20, 5)]
    assert {v.shape[1] for v in vectors} == {128}
    assert all(abs((v**2).sum(axis=1) - 1).max() < 1e-5 for v in vectors)
    assert corpus.fingerprint != Corpus(manuals, 20).fingerprint


def test_a_projection_to_all_dimensions_keeps_inner_products(manuals: list[Path]) -> None:
    corpus = Corpus(manuals, 20)
    (pages,) = corpus.read(0, 20)
    projection = Projection.fit([pages], 384)
    left, right = pages[0].vectors, pages[1].vectors
    difference = projection.apply(left) @ projection.apply(right).T - left @ right.T
    assert abs(difference).max() < 1e-5


def test_too_few_pages(manuals: list[Path]) -> None:
    with pytest.raises(SystemExit, match="the manuals have 77 pages with text, but 78 are asked for"):
        Corpus(manuals, 78)


def test_pages_that_are_not_embedded_are_named(manuals: list[Path]) -> None:
    (vectors_folder(manuals[0]) / "pages-00065.npz").unlink()
    assert Corpus(manuals, 62)
    with pytest.raises(SystemExit, match=r"pages 65 to 70 of first\.pdf have no vectors yet: run"):
        Corpus(manuals, 63)


def test_manuals_without_any_question(manuals: list[Path]) -> None:
    for path in manuals:
        (vectors_folder(path) / QUESTIONS_FILE).unlink()
    with pytest.raises(SystemExit, match="no title of the manuals' outlines"):
        Corpus(manuals, 20)
