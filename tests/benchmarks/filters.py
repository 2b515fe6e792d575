"""Search latency with a filter against that without: `python -m tests.benchmarks.filters MONGO_URI [DOCUMENTS]`.

The records are in MongoDB, in a database of their own that is dropped at the end. Objects and rows are in memory: the
differences are those of the filter. Each kind of search takes turns with the unfiltered one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median, quantiles
from typing import Any, Final

import numpy as np

from ingestion.adapters.mongo.database import client_of
from ingestion.adapters.mongo.document_mapping import page_record_of, record_of
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.filters import Filter, parse_filter
from ingestion.model import (
    SIGN_CODE_FORMAT,
    Document,
    DocumentState,
    PageRecord,
    Vectors,
    codes_key,
    document_prefix,
    vectors_key,
)
from ingestion.search import Searcher
from ingestion.search_mode import SearchMode
from ingestion.settings import MongoSettings, SearchSettings
from ingestion.vectors.blob import encode_blob
from ingestion.vectors.sign_codes import CodeSegment
from tests.memory import MemoryBlobStore, MemoryVectorStore

DIM: Final = 128
PATCHES: Final = 64
RARE: Final = 3
ROUNDS: Final = 15
DATABASE: Final = "filter_benchmark"


class RandomQueries:
    """An Embedder, and the choice of it."""

    fingerprint = "random"
    dim = DIM
    wants_pixels = False

    async def for_fingerprint(self, fingerprint: str) -> Any:
        return self

    async def embed_queries(self, queries: list[str]) -> list[Vectors]:
        return [_unit(np.random.default_rng(int(query)), 8) for query in queries]


def _unit(random: np.random.Generator, rows: int) -> Vectors:
    vectors = random.standard_normal((rows, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def fill(store: MongoDocumentStore, blobs: MemoryBlobStore, documents: int) -> None:
    """Documents of one page. RARE of them have `team = "few"`; `number` counts them."""
    random = np.random.default_rng(1)
    await store.prepare()
    await store.bind_collection("c", RandomQueries.fingerprint, DIM)
    records, pages = [], []
    for number in range(documents):
        id_ = f"{number:032x}"
        team = "few" if number % (documents // RARE) == 7 else "many"
        blob = encode_blob(_unit(random, PATCHES), "int8")
        await blobs.put(vectors_key(id_, 1), blob, "")
        await blobs.put(codes_key(id_, 1), CodeSegment.of([blob]).encode(), "")
        fresh = Document(id_, "c", f"{number}.pdf", f"{document_prefix(id_)}source.pdf", "0" * 64, 1, 1, number + 1)
        ready = replace(fresh, state=DocumentState.READY, outbox="sent", pages_done=1, codes_format=SIGN_CODE_FORMAT)
        records.append(record_of(replace(ready, metadata={"team": team, "number": number}, tags=("t",))))
        pages.append(page_record_of(PageRecord(number + 1, id_, 1, 1, 1, PATCHES, "i", "text", PATCHES)))
    for start in range(0, documents, 1000):
        await store._documents.insert_many(records[start : start + 1000])
        await store._pages.insert_many(pages[start : start + 1000])


async def timed(searcher: Searcher, query: int, where: Filter | None) -> float:
    begin = time.perf_counter()
    await searcher.search("c", str(query), 5, where=where)
    return 1000 * (time.perf_counter() - begin)


async def compare(searcher: Searcher, name: str, where: Callable[[int], Filter]) -> None:
    plain, filtered = [], []
    for query in range(ROUNDS):
        plain.append(await timed(searcher, query, None))
        filtered.append(await timed(searcher, query, where(query)))
    times = [f"p50 {median(one):6.1f} ms, p95 {quantiles(one, n=20)[-1]:6.1f} ms" for one in (plain, filtered)]
    print(
        f"{name:42} unfiltered {times[0]}   filtered {times[1]}   x{median(filtered) / median(plain):.2f}", flush=True
    )


async def main(uri: str, documents: int) -> None:
    blobs = MemoryBlobStore()
    async with MongoDocumentStore(MongoSettings(mongo_uri=uri, mongo_database=DATABASE)) as store:
        await fill(store, blobs, documents)
        searcher = Searcher(
            embedder=RandomQueries(),
            vectors=MemoryVectorStore(),
            records=store,
            blobs=blobs,
            settings=SearchSettings(search_mode=SearchMode.SEMANTIC),
        )
        few, half = parse_filter('team = "few"'), parse_filter(f"number >= {documents // 2}")
        for where in (None, few, half):
            await timed(searcher, 0, where)
        print(f"{documents} documents, {RARE} of them match `few`")
        await compare(searcher, "few, the same filter", lambda _: few)
        await compare(searcher, "half, the same filter", lambda _: half)
        await compare(searcher, "few, a new filter each time", _new("team = 'few' and number != {}"))
        await compare(searcher, "half, a new filter each time", _new(f"number >= {documents // 2} and number != {{}}"))
    client = client_of(uri, selection_timeout_ms=3000)
    await client.drop_database(DATABASE)
    client.close()


def _new(text: str) -> Callable[[int], Filter]:
    return lambda number: parse_filter(text.format(number))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000))
