"""What do fewer and shorter vectors cost in quality, and what do they save?

    python -m tests.benchmarks.vectors MANUAL.pdf... --milvus http://127.0.0.1:19530

For each way to keep a page's vectors it fills an index on that Milvus, asks it as a search does, reranks the best
pages from blobs as they would be stored, and compares with exact MaxSim over all vectors in float32. Questions and
pages are those of `tests.benchmarks.manuals`, embedded by the local embedder. Bytes are printed for these pages and,
computed, for a page of 779 vectors of 128 dimensions; `was` is what such a page took in float32 with M=32.

`stored` vectors become one before anything is kept (PAGEMILL_TOKEN_POOLING), `index` of those become one row of the
index (PAGEMILL_INDEX_POOLING).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Final

import numpy as np

from ingestion.adapters.milvus.scratch_index import ScratchIndex
from ingestion.maxsim import maxsim
from ingestion.model import ROWS_PER_PAGE, BlobPrecision, Page, PageVectors, Vectors
from ingestion.ports import Neighbours
from ingestion.search import approximate_scores
from ingestion.settings import MilvusSettings, SearchSettings
from ingestion.vectors.blob import decode_blob, encode_blob
from ingestion.vectors.encoding import VectorEncoding
from ingestion.vectors.pooling import pool
from tests.benchmarks.manuals import DIM, ManualPage, Question, load_pages, load_questions
from tests.benchmarks.pooling import quality

TOP: Final = 10
COLQWEN: Final = (779, 128)
KEYS_BYTES: Final = 16
"""Of a row: primary key and page key."""
LINK_BYTES: Final = 4
PRECISIONS: Final[tuple[BlobPrecision, ...]] = ("bf16", "int8", "int4")
COLUMNS: Final = (
    "| stored | index | type, M | blob | recall@5 | nDCG@5 | of exact | recall@10 of exact | KB a page here "
    "| ColQwen: ANN + blob = KB | was / now |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Way:
    """How a page's vectors are kept."""

    stored: int
    index: int
    index_type: str
    m: int
    blob: BlobPrecision = "bf16"

    def ann_bytes(self, tokens: int, dim: int) -> int:
        """Of a page in the index: its vectors, HNSW's lowest layer of 2 * M links a row, and the keys."""
        rows = ceil(self.kept(tokens) / self.index)
        vector_bytes = dim if self.index_type == "HNSW_SQ" else 4 * dim
        return rows * (vector_bytes + 2 * self.m * LINK_BYTES + KEYS_BYTES)

    def blob_bytes(self, tokens: int, dim: int) -> int:
        return len(encode_blob(np.zeros((self.kept(tokens), dim), np.float32), self.blob))

    def kept(self, tokens: int) -> int:
        return ceil(tokens / self.stored)


WAS_BYTES: Final = Way(1, 1, "HNSW", 32).ann_bytes(*COLQWEN)


@dataclass(frozen=True, slots=True)
class Corpus:
    """`exact` holds for each question the exact MaxSim scores of all pages; `right` the index of the right page."""

    pages: Sequence[Vectors]
    questions: Sequence[Vectors]
    right: Sequence[int]
    exact: np.ndarray

    @classmethod
    def of(cls, pages: Sequence[ManualPage], questions: Sequence[Question]) -> Corpus:
        places = {(page.manual, page.page_number): index for index, page in enumerate(pages)}
        answerable = [found for found in questions if (found.manual, found.page_number) in places]
        vectors = [page.vectors for page in pages]
        return cls(
            pages=vectors,
            questions=[question.vectors for question in answerable],
            right=[places[question.manual, question.page_number] for question in answerable],
            exact=exact_scores([question.vectors for question in answerable], vectors),
        )


def exact_scores(questions: Sequence[Vectors], pages: Sequence[Vectors]) -> np.ndarray:
    """(questions, pages), as `maxsim` of each question, with the pages stacked once."""
    stacked = np.concatenate(pages)  # (all_tokens, dim)
    starts = np.cumsum([0] + [len(page) for page in pages[:-1]])
    return np.array([np.maximum.reduceat(stacked @ one.T, starts, axis=0).sum(axis=1) for one in questions])


def ranked(scores: np.ndarray, pages: Sequence[int]) -> list[int]:
    return [pages[i] for i in np.argsort(-scores, kind="stable")]


def measure(corpus: Corpus, found: Sequence[Sequence[int]]) -> tuple[float, float, float]:
    """recall@5 and nDCG@5 of the right page, and how much of exact MaxSim's first TOP is among the first TOP."""
    exact = [np.argsort(-scores, kind="stable")[:TOP].tolist() for scores in corpus.exact]
    missing = len(corpus.pages)
    ranks = [
        pages.index(right) if right in pages else missing for pages, right in zip(found, corpus.right, strict=True)
    ]
    agreement = np.mean([len(set(pages[:TOP]) & set(best)) / TOP for pages, best in zip(found, exact, strict=True)])
    return *quality(np.array(ranks)), float(agreement)


def candidates(scratch: ScratchIndex, question: Vectors, settings: SearchSettings, ef: int) -> list[int]:
    keys, products = scratch.search(question, settings.search_ann_limit, ef)
    is_found = keys >= 0
    neighbours = Neighbours(keys[is_found] // ROWS_PER_PAGE, products[is_found], is_found.sum(axis=1))
    return approximate_scores(neighbours)[: settings.search_candidates]


def rows_of(pages: Sequence[Vectors], factor: int) -> Iterator[PageVectors]:
    nothing = Page(page_number=1, width_px=1, height_px=1, image=b"", text="")
    for key, vectors in enumerate(pages):
        yield VectorEncoding(factor).rows(PageVectors(nothing, key, vectors))


def line(way: Way, corpus: Corpus, found: Sequence[Sequence[int]], exact_ndcg: float) -> str:
    recall, ndcg, agreement = measure(corpus, found)
    here = np.mean([way.ann_bytes(len(page), DIM) + way.blob_bytes(len(page), DIM) for page in corpus.pages])
    ann, blob = way.ann_bytes(*COLQWEN), way.blob_bytes(*COLQWEN)
    return (
        f"| {way.stored} | {way.index} | {way.index_type}, {way.m} | {way.blob} | {recall:.3f} | {ndcg:.3f} "
        f"| {ndcg / exact_ndcg:.3f} | {agreement:.3f} | {here / 1000:.0f} "
        f"| {ann / 1000:.0f} + {blob / 1000:.0f} = {(ann + blob) / 1000:.0f} | {WAS_BYTES / (ann + blob):.1f} |"
    )


def run(corpus: Corpus, stored: Sequence[int], ways: Sequence[Way], milvus: MilvusSettings) -> None:
    search = SearchSettings()
    exact = [ranked(scores, range(len(corpus.pages))) for scores in corpus.exact]
    recall, exact_ndcg, _ = measure(corpus, exact)
    print(f"exact MaxSim: recall@5 {recall:.3f}, nDCG@5 {exact_ndcg:.3f}\n\n{COLUMNS}", flush=True)
    for factor in stored:
        kept = [pool(page, factor) for page in corpus.pages]
        blobs = {precision: [encode_blob(page, precision) for page in kept] for precision in PRECISIONS}
        for index in dict.fromkeys(way.index for way in ways):
            with ScratchIndex(milvus, DIM) as scratch:
                for entry in rows_of(kept, index):
                    scratch.insert([entry])
                for way in (replace(way, stored=factor) for way in ways if way.index == index):
                    scratch.build(milvus.model_copy(update={"index_type": way.index_type, "hnsw_m": way.m}))
                    chosen = [candidates(scratch, question, search, milvus.hnsw_ef) for question in corpus.questions]
                    for precision, of_precision in blobs.items():
                        found = [
                            ranked(maxsim(question, [decode_blob(of_precision[page]) for page in pages]), pages)
                            for question, pages in zip(corpus.questions, chosen, strict=True)
                        ]
                        print(line(replace(way, blob=precision), corpus, found, exact_ndcg), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milvus", default="http://127.0.0.1:19530", help="address of the Milvus to use")
    parser.add_argument("--stored", type=int, nargs="+", default=[1, 2, 3], help="pooling of what is stored")
    parser.add_argument("--index", type=int, nargs="+", default=[1, 2, 4], help="pooling on top, for the index")
    parser.add_argument("--index-type", nargs="+", default=["HNSW", "HNSW_SQ"])
    parser.add_argument("--m", type=int, nargs="+", default=[16])
    parser.add_argument("--ef-construction", type=int, default=100)
    parser.add_argument("manuals", type=Path, nargs="+")
    given = parser.parse_args()
    corpus = Corpus.of(load_pages(given.manuals), load_questions(given.manuals))
    vectors = sum(map(len, corpus.pages))
    print(f"{len(corpus.pages)} pages, {vectors} vectors of {DIM} dimensions, {len(corpus.questions)} questions")
    ways = [Way(1, index, index_type, m) for index in given.index for index_type in given.index_type for m in given.m]
    milvus = MilvusSettings(milvus_uri=given.milvus, hnsw_ef_construction=given.ef_construction)
    started = time.monotonic()
    run(corpus, given.stored, ways, milvus)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
