"""The benchmark of a growing collection, on a collection so small that search finds what exact MaxSim finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.growth.__main__ import parse, run
from tests.benchmarks.growth.clients import SearchProcessEnded, search_process
from tests.benchmarks.growth.report import save_plot
from tests.conftest import clean_environment
from tests.support.manual import make_manual

pytestmark = pytest.mark.e2e

_KEYS = {
    "pages",
    "rows",
    "fill_pages_per_s",
    "p50_ms",
    "p95_ms",
    "clients_per_s",
    "recall_at_10",
    "api_mb",
    "milvus_mb",
}
_QUICK = ("--rounds", "1", "--seconds", "1", "--warm-up-s", "0", "--settle-s", "0")


@pytest.fixture
def manual(stack: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manual of 40 pages, one of them without text, for a benchmark on the servers of `stack`."""
    description = tmp_path / "stack.json"
    description.write_text(json.dumps(stack))
    monkeypatch.setenv("PAGEMILL_TEST_STACK", str(description))
    monkeypatch.setenv("PAGEMILL_BENCH_VECTORS", str(tmp_path / "vectors"))
    path = tmp_path / "manual.pdf"
    make_manual(path, 40, without_text={5})
    return path


async def test_every_size_is_measured_and_all_right_pages_are_found(manual: Path, tmp_path: Path) -> None:
    file, plot = tmp_path / "figures.json", tmp_path / "figures.png"
    figures = await run(parse(["--sizes", "32,16", *_QUICK, "--json", str(file), str(manual)]))
    assert json.loads(file.read_text()) == figures
    assert [size["pages"] for size in figures] == [16, 32]
    assert all(size.keys() >= _KEYS for size in figures)
    assert [(size["recall_at_5"], size["exact_recall_at_5"]) for size in figures] == [(1, 1)] * 2
    # Blobs are int8: the order of pages that are about equally bad may differ from that of float32.
    assert all(size["recall_at_10"] > 0.95 for size in figures)
    assert all(size["cold_bytes"] > 0 and size["bytes_per_search"] == 0 for size in figures)
    assert all(size["clients_failed"] == 0 and "maxsim" in size["stages"] for size in figures)
    save_plot(figures, "a test", plot)
    assert plot.stat().st_size


async def test_vectors_of_a_smaller_dimension(manual: Path) -> None:
    (figures,) = await run(parse(["--sizes", "16", "--dim", "128", "--index-pooling", "1", *_QUICK, str(manual)]))
    assert figures["rows"] == 16 * 8
    assert figures["recall_at_5"] == figures["exact_recall_at_5"] == 1


async def test_a_searching_process_that_ends_is_named_with_its_log(tmp_path: Path) -> None:
    env = {**clean_environment(), "PYTHONPATH": str(Path.cwd())}
    with pytest.raises(SearchProcessEnded, match="missing 4 required positional arguments"):
        async with search_process([], env, tmp_path / "search.log"):
            pass
