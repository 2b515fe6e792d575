"""The tuning matrix: builds an index for each M and efConstruction, and searches it with each ef."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion.adapters.milvus.scratch_index import ScratchIndex
from ingestion.model import ROWS_PER_PAGE, Vectors
from ingestion.settings import MilvusSettings
from workers.bench.sample import Sample

NEIGHBOURS: Final = 10
_TOLERANCE: Final = 1e-5
"""Tolerance of an inner product. Equal vectors are equally good neighbours: an index may return any of them."""
_LINK_BYTES: Final = 4
_TOKENS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Grid:
    m: Sequence[int]
    ef_construction: Sequence[int]
    ef: Sequence[int]

    @property
    def builds(self) -> int:
        return len(self.m) * len(self.ef_construction)


@dataclass(frozen=True, slots=True)
class Searched:
    """`recall` compares the 10 nearest rows with exact search. A time is of one request with one query's vectors."""

    ef: int
    recall: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Built:
    """`memory_bytes` is the growth of the server, None if it is not local. `index_bytes` is computed."""

    m: int
    ef_construction: int
    build_s: float
    memory_bytes: int | None
    index_bytes: int
    searched: tuple[Searched, ...]


def measure(
    scratch: ScratchIndex, sample: Sample, grid: Grid, settings: MilvusSettings, memory: Callable[[], int | None]
) -> Iterator[Built]:
    """Insert the sample into `scratch`, then build and search one index after another.

    `memory` returns the memory of the server in bytes, or None if it is unknown.

    Raises IndexUnsupported, DependencyUnavailable.
    """
    for page in sample.pages:
        scratch.insert([page])
    exact = Exact(sample)
    for m, ef_construction in product(grid.m, grid.ef_construction):
        own = settings.model_copy(update={"hnsw_m": m, "hnsw_ef_construction": ef_construction})
        scratch.unload()
        before = memory()
        build_s = scratch.build(own)
        after = memory()
        yield Built(
            m=m,
            ef_construction=ef_construction,
            build_s=build_s,
            memory_bytes=None if before is None or after is None else after - before,
            index_bytes=sample.rows * row_bytes(sample.dim, own),
            searched=tuple(_search(scratch, sample.queries, exact, ef) for ef in grid.ef),
        )


def row_bytes(dim: int, settings: MilvusSettings) -> int:
    """Bytes of a row in HNSW: its vector, and 2 * M links on the lowest layer. Higher layers add a few percent."""
    value_bytes = 4 if settings.index_type == "HNSW" else {"SQ8": 1}.get(settings.index_sq_type, 2)
    return dim * value_bytes + 2 * settings.hnsw_m * _LINK_BYTES


class Exact:
    """Exact search: the products of every query's vectors with all rows."""

    def __init__(self, sample: Sample) -> None:
        self._rows = np.concatenate([page.vectors for page in sample.pages])  # (rows, dim)
        self._starts = np.cumsum([0, *(len(page.vectors) for page in sample.pages)])  # start of each page in `_rows`
        self._worst = [self._worst_of_best(query) for query in sample.queries]

    def recall(self, number: int, query: Vectors, keys: NDArray[np.int64]) -> float:
        """Return the share of the nearest rows of query `number` that `keys`, (tokens, found), contains."""
        is_found = keys >= 0  # an index of fewer rows than NEIGHBOURS returns fewer
        rows = np.where(is_found, self._starts[keys // ROWS_PER_PAGE] + keys % ROWS_PER_PAGE, 0)
        products = np.einsum("tfd,td->tf", self._rows[rows], query)
        right = (products >= self._worst[number][:, None] - _TOLERANCE) & is_found
        return float(right.sum(axis=1).mean()) / min(NEIGHBOURS, len(self._rows))

    def _worst_of_best(self, query: Vectors) -> NDArray[np.float32]:
        """The product with the 10th nearest row, (tokens,)."""
        wanted = min(NEIGHBOURS, len(self._rows))
        parts = [query[start : start + _TOKENS_AT_ONCE] for start in range(0, len(query), _TOKENS_AT_ONCE)]
        return np.concatenate([np.partition(part @ self._rows.T, -wanted, axis=1)[:, -wanted] for part in parts])


def _search(scratch: ScratchIndex, queries: Sequence[Vectors], exact: Exact, ef: int) -> Searched:
    scratch.search(queries[0], NEIGHBOURS, ef)  # warm the caches
    recalls, seconds = [], []
    for number, query in enumerate(queries):
        started = time.perf_counter()
        keys, _ = scratch.search(query, NEIGHBOURS, ef)
        seconds.append(time.perf_counter() - started)
        recalls.append(exact.recall(number, query, keys))
    p50_ms, p95_ms = 1000 * np.percentile(seconds, [50, 95])
    return Searched(ef, float(np.mean(recalls)), float(p50_ms), float(p95_ms))
