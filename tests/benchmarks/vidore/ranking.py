"""Ranks the pages of a set for its queries: exactly, by rounded vectors or sign codes, and as the product searches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion.bootstrap import Services
from ingestion.model import BlobPrecision, Vectors
from ingestion.ports import Embedder
from ingestion.search import Searcher
from ingestion.search.code_scoring import CodeQueries, joined_scores, pad_codes
from ingestion.search_mode import SearchMode
from ingestion.vectors.blob import decode_blob, encode_blob
from ingestion.vectors.sign_codes import sign_codes
from tests.benchmarks.filling import KnownVectors
from tests.benchmarks.vidore.dataset import JudgedQuery
from tests.benchmarks.vidore.ingest import StoredPart

TOP: Final = 10
FULL: Final = "float32"
CODES: Final = "sign codes"
PACKINGS: Final[tuple[BlobPrecision, ...]] = ("bf16", "int8", "int4")
_QUERIES_AT_ONCE: Final = 64

ReadPart = Callable[[StoredPart], Sequence[Vectors]]


@dataclass(frozen=True, slots=True)
class Rankings:
    """The TOP best page ids of each query, best first, and the median seconds of a query; None where not measured."""

    by_query: Sequence[Sequence[str]]
    seconds: float | None = None


def exact_rankings(
    parts: Sequence[StoredPart], read: ReadPart, queries: Sequence[Vectors], kinds: Sequence[str]
) -> dict[str, Rankings]:
    """MaxSim over all pages, for each of `kinds`: FULL, CODES, or a precision of blobs. Reads one document at a time.

    Of equal scores the first page of the set goes first.
    """
    best = {kind: _Best(len(queries)) for kind in kinds}
    for part in parts:
        pages = read(part)
        for kind, of_kind in best.items():
            of_kind.add(part.page_ids, _scores(pages, queries, kind))
    return {kind: Rankings(of_kind.ids()) for kind, of_kind in best.items()}


class _Best:
    """The TOP best pages of each query so far."""

    def __init__(self, queries: int) -> None:
        self._scores = np.empty((queries, 0), np.float32)
        self._ids = np.empty((queries, 0), np.int64)
        self._names: list[str] = []

    def add(self, names: Sequence[str], scores: NDArray[np.float32]) -> None:
        """`scores`: (pages, queries)."""
        ids = np.arange(len(self._names), len(self._names) + len(names))
        self._names += names
        joined = np.concatenate([self._scores, scores.T], axis=1)
        joined_ids = np.concatenate([self._ids, np.broadcast_to(ids, (len(joined), len(ids)))], axis=1)
        order = np.argsort(-joined, axis=1, kind="stable")[:, :TOP]
        self._scores = np.take_along_axis(joined, order, axis=1)
        self._ids = np.take_along_axis(joined_ids, order, axis=1)

    def ids(self) -> list[list[str]]:
        return [
            [self._names[i] for i, score in zip(ids, scores, strict=True) if np.isfinite(score)]
            for ids, scores in zip(self._ids.tolist(), self._scores, strict=True)
        ]


def _scores(pages: Sequence[Vectors], queries: Sequence[Vectors], kind: str) -> NDArray[np.float32]:
    """(pages, queries)"""
    groups = _groups(queries)
    if kind == CODES:
        codes = [pad_codes(sign_codes(encode_blob(page))) for page in pages]
        return np.concatenate([joined_scores(CodeQueries.of(group, 1), codes) for group in groups], axis=1)
    if kind != FULL:
        pages = [decode_blob(encode_blob(page, kind)) for page in pages]  # type: ignore[arg-type]  # one of PACKINGS
    return np.concatenate([_maxsim(pages, group) for group in groups], axis=1)


def _maxsim(pages: Sequence[Vectors], queries: Sequence[Vectors]) -> NDArray[np.float32]:
    """(pages, queries), as `ingestion.maxsim` scores each query, with all queries in one product."""
    stacked = np.concatenate(queries)  # (all tokens, dim)
    starts = np.cumsum([0, *map(len, queries[:-1])])
    scores = np.full((len(pages), len(queries)), -np.inf, np.float32)
    for i, page in enumerate(pages):
        if len(page):
            scores[i] = np.add.reduceat((page @ stacked.T).max(axis=0), starts)
    return scores


def _groups(queries: Sequence[Vectors]) -> list[Sequence[Vectors]]:
    return [queries[i : i + _QUERIES_AT_ONCE] for i in range(0, len(queries), _QUERIES_AT_ONCE)]


async def embed_queries(embedder: Embedder, queries: Sequence[JudgedQuery]) -> tuple[dict[str, Vectors], float]:
    """The vectors by text, and the median seconds of a query alone."""
    vectors, seconds = {}, []
    for text in dict.fromkeys(query.text for query in queries):
        began = time.perf_counter()
        (vectors[text],) = await embedder.embed_queries([text])
        seconds.append(time.perf_counter() - began)
    return vectors, float(np.median(seconds))


async def product_rankings(
    services: Services,
    collection: str,
    parts: Sequence[StoredPart],
    queries: Sequence[JudgedQuery],
    known: KnownVectors,
) -> Rankings:
    """What the product's search for meaning finds, one query after another, with the vectors of queries at hand."""
    search = services.settings.search.model_copy(update={"search_cache_ttl_s": 0})
    searcher = Searcher(
        embedder=known, vectors=services.vectors, records=services.documents, blobs=services.blobs, settings=search
    )
    names = {(part.document_id, number): id_ for part in parts for number, id_ in enumerate(part.page_ids, start=1)}
    found, seconds = [], []
    for query in itertools.chain(queries[:1], queries):  # the first one warms the caches up
        began = time.perf_counter()
        hits = (await searcher.answer(collection, query.text, TOP, mode=SearchMode.SEMANTIC)).hits
        seconds.append(time.perf_counter() - began)
        found.append([names[hit.document_id, hit.page] for hit in hits])
    return Rankings(found[1:], float(np.median(seconds[1:])))
