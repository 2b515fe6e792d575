"""ViDoRe sets of all versions are read as published, and bad ones get one error that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.vidore.__main__ import main
from tests.benchmarks.vidore.dataset import BadDataset, CorpusPage, load_dataset
from tests.benchmarks.vidore.page_pdf import pages_pdf
from tests.support.vidore_sets import make_v3, picture, write_table

IMAGES = [picture(number) for number in range(5)]
QUERIES = [
    ("which page is first?", "english", {0: 2, 1: 1}),
    ("quelle page est la dernière ?", "french", {4: 1}),
    ("which one is the third?", "english", {2: 1, 3: 0}),
]


def image(content: bytes) -> dict[str, Any]:
    return {"bytes": content, "path": "page.png"}


def test_version_3(tmp_path: Path) -> None:
    found = load_dataset(make_v3(tmp_path / "set", IMAGES, QUERIES))
    assert found.name == "set"
    assert list(found.page_ids) == ["0", "1", "2", "3", "4"]
    assert [page.image for page in found.pages()] == IMAGES
    assert [page.id for page in found.pages(3)] == ["3", "4"]
    assert [(query.text, query.language, query.relevance) for query in found.queries] == [
        (text, language, {str(page): grade for page, grade in grades.items()}) for text, language, grades in QUERIES
    ]
    assert found.languages == ["english", "french"]


def test_version_2_with_hyphens_and_without_languages(tmp_path: Path) -> None:
    write_table(tmp_path / "corpus/test-0.parquet", [{"corpus-id": "p1", "image": image(IMAGES[1]), "doc-id": "d"}])
    write_table(tmp_path / "queries/test-0.parquet", [{"query-id": "q1", "query": "what?"}])
    write_table(tmp_path / "qrels/test-0.parquet", [{"query-id": "q1", "corpus-id": "p1", "score": 1, "answer": "x"}])
    found = load_dataset(tmp_path)
    assert list(found.pages()) == [CorpusPage("p1", IMAGES[1])]
    assert [(query.id, query.language, query.relevance) for query in found.queries] == [("q1", "", {"p1": 1})]


@pytest.mark.parametrize("has_names", [True, False])
def test_version_1_where_equal_images_are_one_page(tmp_path: Path, has_names: bool) -> None:
    rows = [
        {"query": query, "image": image(IMAGES[number]), "answer": "x"}
        | ({"image_filename": f"page {number}"} if has_names else {})
        for query, number in [("first?", 0), ("and again?", 0), (None, 1), ("third?", 2)]
    ]
    write_table(tmp_path / "data/test-00000-of-00001.parquet", rows)
    found = load_dataset(tmp_path)
    assert [page.image for page in found.pages()] == IMAGES[:3]
    assert [query.text for query in found.queries] == ["first?", "and again?", "third?"]
    first, again, third = (dict(query.relevance) for query in found.queries)
    assert first == again == {found.page_ids[0]: 1}
    assert third == {found.page_ids[2]: 1}


def test_a_language_and_a_limit_choose_queries(tmp_path: Path) -> None:
    folder = make_v3(tmp_path, IMAGES, QUERIES)
    assert [query.id for query in load_dataset(folder, languages=["French"]).queries] == ["1"]
    first = load_dataset(folder, limit=1)
    assert list(first.page_ids) == ["0"]
    assert [(query.id, query.relevance) for query in first.queries] == [("0", {"0": 2})]
    with pytest.raises(BadDataset, match="no queries in german; it has english, french"):
        load_dataset(folder, languages=["german"])


def test_other_splits_are_left_out(tmp_path: Path) -> None:
    folder = make_v3(tmp_path, IMAGES, QUERIES)
    write_table(folder / "corpus" / "train-0.parquet", [{"corpus_id": 9, "image": image(IMAGES[0])}])
    assert len(load_dataset(folder).page_ids) == 5


def without(column: str, table: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rows = {
            "corpus": {"corpus_id": 0, "image": image(IMAGES[0])},
            "qrels": {"query_id": 0, "corpus_id": 0, "score": 1},
        }
        row = {name: value for name, value in rows[table].items() if name != column}
        for file in (folder / table).iterdir():
            file.unlink()
        write_table(folder / table / "test-0.parquet", [row])

    return change


def qrels(**row: int) -> Callable[[Path], None]:
    return lambda folder: write_table(folder / "qrels" / "test-00000-of-00001.parquet", [{"score": 1} | row])


def damaged(folder: Path) -> None:
    (folder / "corpus" / "test-00000-of-00002.parquet").write_bytes(b"PAR1 and nothing")


def empty(folder: Path) -> None:
    for file in folder.rglob("*.parquet"):
        file.unlink()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (damaged, r"test-00000-of-00002.parquet is damaged, or is not a Parquet file; fetch it again"),
        (empty, r"corpus has no \*.parquet files; a ViDoRe set has corpus/, queries/, qrels/"),
        (without("corpus_id", "corpus"), "has no column corpus-id or corpus_id; it has image"),
        (without("score", "qrels"), "has no column score; it has query_id, corpus_id"),
        (qrels(query_id=0, corpus_id=77), "judges page 77, which is not in"),
        (qrels(query_id=55, corpus_id=1), "judges query 55, which is not in"),
        (qrels(query_id=0, corpus_id=1, score=0), "no query has a relevant page among the 5 pages"),
    ],
)
def test_a_bad_set_gets_one_error(tmp_path: Path, change: Callable[[Path], None], error: str) -> None:
    folder = make_v3(tmp_path, IMAGES, QUERIES)
    change(folder)
    with pytest.raises(BadDataset, match=error):
        load_dataset(folder)


def test_bad_images_are_named(tmp_path: Path) -> None:
    found = load_dataset(make_v3(tmp_path, [b"", b"no image"], [("what?", "english", {0: 1})]))
    with pytest.raises(BadDataset, match="page 0 has no image bytes"):
        list(found.pages())
    with pytest.raises(BadDataset, match="the image of page 1 cannot be read"):
        pages_pdf(list(found.pages(1)))


def test_the_command_prints_the_error_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'absent'} is not a folder; name the folder of a ViDoRe set, as `hf download` makes it\n"
    )
