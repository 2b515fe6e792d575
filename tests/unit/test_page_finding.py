"""Which pages a search by meaning finds, through each of its stages, in collections of every make."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import stamina

from ingestion.effort import Effort
from ingestion.errors import DependencyUnavailable, Overloaded, WorkerFault
from ingestion.maxsim import maxsim
from ingestion.model import Document, Page, PageVectors, Vectors, codes_keys, terms_keys
from ingestion.retrying import ATTEMPTS
from ingestion.search import Searcher
from ingestion.search_mode import SearchMode
from ingestion.settings import SearchSettings
from ingestion.vectors.blob import decode_blob, encode_blob
from ingestion.vectors.encoding import VectorEncoding
from tests.memory import MemoryBlobStore, MemoryDocumentStore, MemoryVectorStore
from tests.support.documents import LEASE_MS, document
from workers.attempt.store import PageStore

DIM = 16
TOP = 5


class KnownQueries:
    """An Embedder, and the choice of it. A query is the number that its vectors are made from."""

    fingerprint = "known"
    dim = DIM
    wants_pixels = False

    async def for_fingerprint(self, fingerprint: str) -> Any:
        return self

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        return [unit_vectors(3, seed=int(query)) for query in queries]


class CountingBlobs(MemoryBlobStore):
    """Notes the keys that are read. `is_down`: no key can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.is_down = False

    async def get(self, key: str) -> bytes:
        self.read.append(key)
        if self.is_down:
            raise DependencyUnavailable("s3", "down")
        return await super().get(key)

    def segments_read(self) -> int:
        return sum(key.endswith(".codes") for key in self.read)

    def pages_read(self) -> int:
        return sum(key.endswith(".vec") for key in self.read)


class CountingVectors(MemoryVectorStore):
    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    async def search(self, collection: str, query: Vectors, limit: int, **options: Any) -> Any:
        self.limits.append(limit)
        return await super().search(collection, query, limit, **options)


def unit_vectors(tokens: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((tokens, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass(repr=False)  # asyncio takes the repr of what a fixture returns, and that of 230 arrays takes long
class Library:
    """A collection `c` in memory, filled as a worker fills it."""

    records: MemoryDocumentStore = field(default_factory=MemoryDocumentStore)
    blobs: CountingBlobs = field(default_factory=CountingBlobs)
    vectors: CountingVectors = field(default_factory=CountingVectors)
    pages: dict[tuple[str, int], Vectors] = field(default_factory=dict)
    """The stored vectors of all ready pages."""

    def searcher(self, **settings: Any) -> Searcher:
        return Searcher(
            embedder=KnownQueries(),
            vectors=self.vectors,
            records=self.records,
            blobs=self.blobs,
            settings=SearchSettings(search_candidates=20, search_mode=SearchMode.SEMANTIC).model_copy(update=settings),
        )

    async def add(self, id_: str, pages: int, *, has_codes: bool = True, **fields: Any) -> Document:
        first = await self.records.reserve_page_keys(pages)
        fresh = replace(document(id_), pages=pages, first_page_key=first, revision=first, **fields)
        await self.records.insert(fresh)
        claimed = await self.records.claim(id_, "w", LEASE_MS)
        store = PageStore(self.records, self.blobs, self.vectors, VectorEncoding(1, "int8"))
        generation = await store.prepare(claimed, KnownQueries())  # type: ignore[arg-type]  # embeds no pages
        planned = await self.records.plan(id_, claimed.fence, dpi=100, stage="", generation=generation)
        window = []
        for number in range(1, pages + 1):
            vectors = unit_vectors(6, seed=crc32(f"{id_} {number}".encode()))
            window.append(PageVectors(Page(number, 1, 1, b"", f"page {number}"), claimed.page_key(number), vectors))
            self.pages[id_, number] = decode_blob(encode_blob(vectors, "int8"))
        codes = store.code_writer(planned, generation, 0)
        await store.write(planned, window, codes)
        done = await store.completed(planned, codes)
        if not has_codes:  # as an earlier release left it
            await self.blobs.delete([*codes_keys(id_, pages), *terms_keys(id_, pages)])
            done = planned
        return await self.records.finish(done)

    def best(self, query: str, top: int = TOP) -> list[tuple[str, int]]:
        """By exact MaxSim over all pages."""
        scores = maxsim(unit_vectors(3, seed=int(query)), list(self.pages.values()))
        places = list(self.pages)
        return [places[i] for i in np.argsort(-scores, kind="stable")[:top]]


async def found(searcher: Searcher, query: str, top: int = TOP, effort: Effort = Effort.BALANCED) -> Any:
    return [(hit.document_id, hit.page) for hit in await searcher.search("c", query, top, effort)]


async def recall(library: Library, searcher: Searcher, **options: Any) -> float:
    shares = []
    for number in range(20):
        best = set(library.best(str(number)))
        shares.append(len(best & set(await found(searcher, str(number), **options))) / len(best))
    return float(np.mean(shares))


@pytest.fixture
async def library() -> Library:
    library = Library()
    for number, pages in enumerate((70, 1, 30, 129)):
        await library.add(f"d{number}", pages)
    return library


async def test_all_sign_codes_of_a_small_collection_are_ranked_and_the_index_is_not_asked(library: Library) -> None:
    assert await recall(library, library.searcher()) >= 0.95
    assert library.vectors.limits == []


async def test_only_so_many_pages_are_scored_exactly(library: Library) -> None:
    await library.searcher(search_page_cache_bytes=0).search("c", "1", TOP)
    assert library.blobs.pages_read() == 20
    library.blobs.read.clear()
    await library.searcher(search_page_cache_bytes=0).search("c", "1", 30)
    assert library.blobs.pages_read() == 60


async def test_sign_codes_are_read_once_in_segments_of_64_pages(library: Library) -> None:
    searcher = library.searcher()
    await recall(library, searcher)
    assert library.blobs.segments_read() == 2 + 1 + 1 + 3


async def test_a_large_collection_is_searched_through_the_index(library: Library) -> None:
    assert await recall(library, library.searcher(search_scan_pages=100)) >= 0.9
    assert set(library.vectors.limits) == {200}


async def test_sign_codes_that_do_not_fit_into_memory_are_not_scanned(library: Library) -> None:
    assert await recall(library, library.searcher(search_code_cache_bytes=1000)) >= 0.9
    assert library.vectors.limits


async def test_rows_asked_of_the_index_grow_with_the_collection(library: Library) -> None:
    searcher = library.searcher(search_scan_pages=0, search_ann_limit=20_000, search_ann_limit_max=450)
    await searcher.search("c", "1", TOP)
    await searcher.search("c", "2", TOP, Effort.FAST)
    assert library.vectors.limits == [450, 225]


async def test_old_documents_without_sign_codes_are_found_too(library: Library) -> None:
    await library.add("old", 50, has_codes=False)
    assert await recall(library, library.searcher()) >= 0.95
    assert library.vectors.limits


async def test_a_collection_without_any_sign_codes_is_ranked_by_the_index() -> None:
    library = Library()
    await library.add("old", 100, has_codes=False)
    assert await recall(library, library.searcher()) >= 0.95
    assert library.blobs.segments_read() == 0


async def test_sign_codes_that_are_lost_do_not_hide_a_page(library: Library) -> None:
    await library.blobs.delete(codes_keys("d3", 129)[1:])
    assert await recall(library, library.searcher()) >= 0.95
    assert await recall(library, library.searcher(search_scan_pages=0)) >= 0.95


async def test_damaged_sign_codes_do_not_hide_a_page(library: Library) -> None:
    for key in codes_keys("d3", 129):
        await library.blobs.put(key, b"PMSC of something else", "application/octet-stream")
    assert await recall(library, library.searcher()) >= 0.95


async def test_a_document_that_becomes_ready_is_found_at_once(library: Library) -> None:
    searcher = library.searcher()
    await recall(library, searcher)
    await library.add("new", 40)
    assert await recall(library, searcher) >= 0.95


async def test_a_deleted_document_is_not_found_and_leaves_no_gap(library: Library) -> None:
    searcher = library.searcher()
    await recall(library, searcher)
    await library.records.begin_delete("d3")
    library.pages = {place: vectors for place, vectors in library.pages.items() if place[0] != "d3"}
    assert await recall(library, searcher) >= 0.95
    assert len(await found(searcher, "1", top=50)) == 50


async def test_a_document_that_is_deleted_during_a_search_does_not_end_it(library: Library) -> None:
    class Deleting(KnownQueries):
        """Deletes the document of the best page after the search has read the collection's version."""

        async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
            await library.records.begin_delete(gone)
            await library.blobs.delete_prefix(f"documents/{gone}/")
            return await super().embed_queries(queries)

    searcher = library.searcher(search_page_cache_bytes=0)
    (gone, _), *_ = await found(searcher, "1")  # and the pages of this version are listed
    searcher._embedder = Deleting()
    library.pages = {place: vectors for place, vectors in library.pages.items() if place[0] != gone}
    hits = await found(searcher, "1")
    assert len(hits) == TOP and gone not in [document for document, _ in hits]


async def test_the_same_file_uploaded_again_is_found_by_its_new_sign_codes(library: Library) -> None:
    searcher = library.searcher()
    await recall(library, searcher)
    await library.records.remove(await library.records.begin_delete("d0"))
    await library.blobs.delete_prefix("documents/d0/")
    await library.vectors.delete_pages("c", 1, 70)
    library.pages = {place: vectors for place, vectors in library.pages.items() if place[0] != "d0"}
    await library.add("d0", 3)
    assert await recall(library, searcher) >= 0.95


async def test_an_exhaustive_search_finds_exactly_the_best_pages(library: Library) -> None:
    await library.add("old", 50, has_codes=False)
    searcher = library.searcher(search_candidates=1)
    for number in range(10):
        assert await found(searcher, str(number), 7, Effort.EXHAUSTIVE) == library.best(str(number), 7)
    assert library.vectors.limits == [] and library.blobs.segments_read() == 0


async def test_an_exhaustive_search_leaves_out_what_is_deleted_meanwhile(library: Library) -> None:
    class Deleting(KnownQueries):
        async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
            await library.records.begin_delete("d1")
            await library.blobs.delete_prefix("documents/d1/")
            return await super().embed_queries(queries)

    searcher = library.searcher()
    searcher._embedder = Deleting()
    library.pages.pop(("d1", 1))
    assert await found(searcher, "1", 7, Effort.EXHAUSTIVE) == library.best("1", 7)


async def test_one_exhaustive_search_runs_at_a_time(library: Library) -> None:
    searcher = library.searcher()
    with searcher._one_exhaustive(Effort.EXHAUSTIVE):
        with pytest.raises(Overloaded, match="exhaustive search is busy"):
            await found(searcher, "1", effort=Effort.EXHAUSTIVE)
        assert len(await found(searcher, "1")) == TOP
    assert len(await found(searcher, "1", effort=Effort.EXHAUSTIVE)) == TOP


async def test_an_object_store_that_is_down_is_an_error_and_not_an_answer(library: Library) -> None:
    searcher = library.searcher()
    library.blobs.is_down = True
    with stamina.set_testing(True, attempts=ATTEMPTS), pytest.raises(DependencyUnavailable):
        await found(searcher, "1")
    library.blobs.is_down = False
    assert len(await found(searcher, "1")) == TOP


async def test_searches_that_need_the_same_segment_share_its_read(library: Library) -> None:
    searcher = library.searcher()
    await asyncio.gather(*(found(searcher, str(number)) for number in range(10)))
    assert library.blobs.segments_read() == 2 + 1 + 1 + 3


async def test_pages_beyond_the_bytes_that_a_search_may_read_are_left_out(library: Library) -> None:
    searcher = library.searcher(search_scan_pages=0, search_code_read_bytes=1)
    assert len(await found(searcher, "1")) == TOP  # the first segment is always read
    assert library.blobs.segments_read() == 1


async def test_vectors_that_are_lost_are_an_error(library: Library) -> None:
    library.blobs.objects = {key: one for key, one in library.blobs.objects.items() if not key.endswith(".vec")}
    with pytest.raises(WorkerFault, match="lack their vectors"):
        await found(library.searcher(), "1")
    with pytest.raises(WorkerFault, match="lacks its vectors"):
        await found(library.searcher(), "1", effort=Effort.EXHAUSTIVE)
