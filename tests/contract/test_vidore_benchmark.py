"""The ViDoRe benchmark from a set to its table, on real servers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ingestion.settings import Settings
from tests.benchmarks.vidore.__main__ import main, parse, run
from tests.support.vidore_sets import make_v3, name_of, open_pixel_embedder, picture

PACKED = ["bf16", "int8", "int4"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """40 pages: two documents of the benchmark. Each query asks for a page of grade 2, and one of grade 1."""
    images = [picture(number, "JPEG" if number % 3 == 0 else "PNG") for number in range(40)]
    queries = [
        (f"find {name_of(images[page])} and {name_of(images[page - 1])}", language, {page: 2, page - 1: 1})
        for page in (3, 12, 33, 39)
        for language in ("english", "french")
    ]
    # A query whose judged page is not the one that it asks for.
    queries.append((f"find {name_of(images[7])}", "french", {20: 1}))
    return make_v3(tmp_path / "set", images, queries)


def arguments(dataset: Path, *options: str) -> Any:
    return parse([str(dataset), "--servers", "given", *options])


async def test_from_a_set_to_its_figures_and_on_from_there(
    dataset: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(dataset)
    figures = await run(given, open_pixel_embedder)
    assert [(one.vectors, one.ranking) for one in figures] == [
        *((kind, "exact") for kind in ("float32", *PACKED, "sign codes")),
        *((kind, "search") for kind in ("int8", "bf16", "int4")),
    ]
    # Only where every pixel has come through are the vectors those that the queries ask for.
    for one in figures:
        assert one.by_language == {"english": 1.0, "french": pytest.approx(4 / 5, abs=1e-4)}, one
        assert one.ndcg == {"5": pytest.approx(8 / 9, abs=1e-4), "10": pytest.approx(8 / 9, abs=1e-4)}, one
        assert one.page_s is not None and one.page_s > 0 and one.embed_query_ms >= 0
        assert (one.query_ms is None) == (one.ranking == "exact")
    printed = capsys.readouterr().out
    assert "set: 40 pages, 9 queries in english, french" in printed
    assert "| as set | float32 | exact | 0.889 | 0.889 | 1.000 | 0.800 |" in printed

    # The same run again computes nothing. One language more is measured on the same collection.
    assert await run(given, open_pixel_embedder) == figures
    (vectors,) = given.work.glob("*/vectors")
    ingested = {path: path.stat().st_mtime_ns for path in vectors.rglob("*.npy")}
    assert len(ingested) == 40
    french = await run(arguments(dataset, "--language", "french"), open_pixel_embedder)
    assert {path: path.stat().st_mtime_ns for path in vectors.rglob("*.npy")} == ingested
    assert {one.ndcg["5"] for one in french} == {0.8}


async def test_a_run_that_was_ended_goes_on(dataset: Path, settings: Settings) -> None:
    given = arguments(dataset, "--limit", "34")
    await run(given, open_pixel_embedder)
    (journal,) = given.work.glob("*/documents.jsonl")
    first, *_ = journal.read_text().splitlines()
    journal.write_text(first + "\n")
    for results in given.work.glob("*/results*"):
        results.unlink()
    figures = await run(given, open_pixel_embedder)
    assert figures[0].ndcg["5"] > 0.8
    lines = journal.read_text().splitlines()
    assert lines[0] == first and len(lines) > 2


def test_vectors_of_an_earlier_run_that_are_gone_are_an_error(
    dataset: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(dataset), "--servers", "given", "--limit", "10"]
    assert main(options, opened=open_pixel_embedder) == 0
    (folder,) = parse(options).work.iterdir()
    shutil.rmtree(folder / "vectors")
    (results,) = folder.glob("results*")
    results.unlink()
    assert main(options, opened=open_pixel_embedder) == 2
    assert "vectors of an earlier run are missing" in capsys.readouterr().err
