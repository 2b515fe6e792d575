"""A search from end to end: admission, the query cache, the query's vectors, the best pages, and their hits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cachetools import LRUCache

from ingestion.catalogue.generations import Generation
from ingestion.concurrency.deadline import budget, is_spent
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.effort import Effort
from ingestion.errors import BadRequest, EmbedderMismatch, IngestError, Overloaded
from ingestion.filters import Filter, filter_text
from ingestion.hits import Hit, SearchResult
from ingestion.model import Vectors, check_qualified, check_text
from ingestion.ports import (
    Bindings,
    BlobStore,
    CollectionVersions,
    EmbedderChoice,
    QueryCache,
    Searchable,
    VectorStore,
)
from ingestion.search.admission import Admission, ReservedRows, cost_in_rows, estimated_tokens
from ingestion.search.collection_pages import CollectionPages
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.exhaustive import ExhaustiveScorer
from ingestion.search.fusion import fused
from ingestion.search.hit_maker import HitMaker
from ingestion.search.lexical import LexicalFinder, LexicalHits
from ingestion.search.page_finder import FinderRecords, PageFinder, Ranked
from ingestion.search.planning import LEAST_COST_ROWS
from ingestion.search.query_cache import VersionedQueryCache, key_of
from ingestion.search.stages import search_stage
from ingestion.search.version_age import VersionAge
from ingestion.search_mode import SearchMode
from ingestion.settings import SearchSettings

_MOST_COLLECTIONS: Final = 10_000
_EXHAUSTIVE_RETRY_S: Final = 10
_MAX_QUERY_CHARS: Final = 4000


class SearchRecords(FinderRecords, CollectionVersions, Bindings, Protocol):
    """What a search reads."""


class Searcher:
    """Finds pages of ready documents. Safe to use from many tasks at once."""

    def __init__(
        self,
        *,
        embedder: EmbedderChoice,
        vectors: VectorStore,
        records: SearchRecords,
        blobs: BlobStore,
        settings: SearchSettings,
        cache: QueryCache | None = None,
    ) -> None:
        self._embedder = embedder
        self._records = records
        self._blobs = blobs
        self._settings = settings
        self._version_age = VersionAge()
        self._query_cache = VersionedQueryCache(cache, records, settings.search_cache_ttl_s)
        self._admission = Admission(settings.search_limit_rows)
        self._costs: LRUCache[str, int] = LRUCache(_MOST_COLLECTIONS)
        """The cost for each token of the last search of a collection."""
        self._cpu_threads = CpuThreads(settings.search_threads)
        self._hits = HitMaker(records, blobs, self._cpu_threads, image_url_expires_s=settings.image_url_expires_s)
        self._finder = PageFinder(
            vectors=vectors, records=records, blobs=blobs, settings=settings, cpu_threads=self._cpu_threads
        )
        self._lexical = LexicalFinder(self._finder, blobs, self._cpu_threads, settings.search_term_cache_bytes)
        self._exhaustive = ExhaustiveScorer(blobs, records, self._cpu_threads)
        self._is_exhausting = False

    def check_capacity(self) -> None:
        """Raises Overloaded where even the smallest search would be refused."""
        self._admission.check_capacity(cost_in_rows(0, LEAST_COST_ROWS))

    async def search(
        self,
        collection: str,
        query: str,
        top_k: int,
        effort: Effort = Effort.BALANCED,
        where: Filter | None = None,
    ) -> list[Hit]:
        """The hits of `answer`, in the mode of the settings."""
        return (await self.answer(collection, query, top_k, effort, where=where)).hits

    async def answer(
        self,
        collection: str,
        query: str,
        top_k: int,
        effort: Effort = Effort.BALANCED,
        mode: SearchMode | None = None,
        where: Filter | None = None,
    ) -> SearchResult:
        """The `top_k` best pages of `collection`, best first; an unknown collection has none.

        `where`: only pages of documents for which it holds. They are selected before any page is ranked.
        `mode`: by default that of the settings. `effort` makes no difference to a search for words.

        Raises BadRequest, CollectionArchived, EmbedderMismatch where no embedding service has the model of the
        collection's vectors, Overloaded at once where too much is in flight, here or at the embedder, and
        DependencyUnavailable, at the latest once `search_budget_s` have passed, or `search_exhaustive_budget_s`.
        """
        check_qualified(collection)
        self._check(query, top_k)
        mode = mode or self._settings.search_mode
        asked = _Asked(query, top_k, Effort.BALANCED if mode is SearchMode.LEXICAL else effort, mode, where)
        rows = cost_in_rows(estimated_tokens(query), self._costs.get(collection, LEAST_COST_ROWS))
        with self._one_exhaustive(asked.effort), self._admission.admit(rows) as reserved, self._budget(asked.effort):
            return await self._search(collection, asked, reserved)

    @contextmanager
    def _one_exhaustive(self, effort: Effort) -> Iterator[None]:
        """Raises Overloaded where another exhaustive search runs in this process."""
        if effort is not Effort.EXHAUSTIVE:
            yield
            return
        if self._is_exhausting:
            raise Overloaded("exhaustive search", _EXHAUSTIVE_RETRY_S)
        self._is_exhausting = True
        try:
            yield
        finally:
            self._is_exhausting = False

    def _budget(self, effort: Effort) -> AbstractContextManager[None]:
        is_exhaustive = effort is Effort.EXHAUSTIVE
        return budget(self._settings.search_exhaustive_budget_s if is_exhaustive else self._settings.search_budget_s)

    async def _search(self, collection: str, asked: _Asked, reserved: ReservedRows) -> SearchResult:
        known_ready: set[str] = set()
        while (view := await self._view(collection)) is not None:
            try:
                found = await self._answer(view, asked, reserved, known_ready)
            except IngestError:
                if is_spent() or await self._is_current(view):
                    raise
                continue  # the vectors that it searched have been removed since
            if found is not None:
                return SearchResult(
                    hits=await self._hits.with_image_urls(found.hits), mode=asked.mode, notes=found.notes
                )
        return SearchResult(hits=[], mode=asked.mode)

    async def _view(self, collection: str) -> Searchable | None:
        """The collection as it is before the search: see `query_cache`. None where it is unknown."""
        with search_stage("collection"):
            return await self._records.searchable(collection)

    async def _is_current(self, view: Searchable) -> bool:
        """False where the collection has switched to other vectors since, and its former vectors are being removed."""
        bound = await self._records.binding(view.binding.collection)
        return bound is None or bound.current == view.binding.current

    async def _answer(
        self, view: Searchable, asked: _Asked, reserved: ReservedRows, known_ready: set[str]
    ) -> SearchResult | None:
        """None where the collection switched to other vectors, or a document was replaced, during the search.

        An answer with notes is not cached: what it lacks may be there soon, and changes no version.
        """
        key = key_of(view, asked.query, (*asked.options, *self._settings.result_options))
        with search_stage("query_cache"):
            cached = await self._query_cache.get(key)
        if cached is not None:
            return SearchResult(hits=cached)
        stable_for_s = self._version_age.stable_for_s(view)
        allowed = None if asked.where is None else await self._finder.pages_of(view, asked.where)
        ranked, notes = await self._ranked(view, asked, reserved, stable_for_s, allowed)
        newest = await self._newest(view.binding.collection, ranked, known_ready)
        if newest is None:
            return None
        best = newest[: asked.top_k]
        hits, is_current = await asyncio.gather(self._hits.described(asked.query, best), self._is_current(view))
        if not is_current:
            return None
        if len(hits) == len(best) and not notes:  # else a document of it is just being deleted
            await self._query_cache.put(key, hits)
        return SearchResult(hits=hits, notes=list(notes))

    async def _ranked(
        self,
        view: Searchable,
        asked: _Asked,
        reserved: ReservedRows,
        stable_for_s: float,
        allowed: CollectionPages | None,
    ) -> tuple[Ranked, Sequence[str]]:
        """The best pages, best first, and notes. `allowed`: only of these pages; None: of all of the collection."""
        if allowed is not None and not allowed.count:
            return [], []
        semantic: Any
        lexical: Any
        semantic, lexical = await gather_or_cancel(
            self._semantic(view, asked, reserved, stable_for_s, allowed), self._lexical_hits(view, asked, allowed)
        )
        if asked.mode is SearchMode.HYBRID:
            return fused(semantic, lexical.ranked, lexical.shares), lexical.notes
        return semantic or lexical.ranked, lexical.notes

    async def _newest(self, collection: str, ranked: Ranked, known_ready: set[str]) -> Ranked | None:
        """The pages without those of replaced documents. None where the search must be repeated with a new view.

        The index, and each list of pages, was read at a moment of its own. A newer version whose pages are not among
        these either ranks lower, or became ready after its list or index was read. In the second case neither version
        would be found. So the search is repeated, once for each newer version: `known_ready` has their ids.
        """
        keys = {page.document.key for page, _ in ranked if page.document.key}
        if not keys:
            return ranked
        with search_stage("records"):
            versions = await self._records.newest_of_keys(collection, keys)
        newest = {key: document.id for key, document in versions.items()}
        missing = set(newest.values()) - {page.document.id for page, _ in ranked} - known_ready
        if missing:
            known_ready |= missing
            return None
        return [one for one in ranked if newest.get(one[0].document.key, one[0].document.id) == one[0].document.id]

    async def _lexical_hits(self, view: Searchable, asked: _Asked, allowed: CollectionPages | None) -> LexicalHits:
        if asked.mode is SearchMode.SEMANTIC:
            return LexicalHits([])
        return await self._lexical.best(view, asked.query, self._wanted(asked), allowed)

    async def _semantic(
        self,
        view: Searchable,
        asked: _Asked,
        reserved: ReservedRows,
        stable_for_s: float,
        allowed: CollectionPages | None,
    ) -> Ranked:
        if asked.mode is SearchMode.LEXICAL:
            return []
        vectors = await self._embed(view.binding.collection, view.binding.current, asked.query)
        if not len(vectors):  # a query without tokens
            return []
        if asked.effort is Effort.EXHAUSTIVE:
            pages = await self._finder.pages_of(view) if allowed is None else allowed
            return await self._exhaustive.best(view, pages, vectors, self._wanted(asked))
        plan = await self._finder.plan(view, asked.effort, asked.top_k, allowed)
        if allowed is None:
            self._costs[view.binding.collection] = plan.cost_rows
        return await self._finder.best(view, vectors, plan, reserved, stable_for_s, allowed)

    def _wanted(self, asked: _Asked) -> int:
        """The pages of a ranking that is fused with another one."""
        return max(self._settings.search_candidates, asked.top_k)

    async def _embed(self, collection: str, generation: Generation, query: str) -> Vectors:
        with search_stage("embed"):
            embedder = await self._embedder.for_fingerprint(generation.fingerprint)
            vectors = (await embedder.embed_queries([query]))[0]
        if embedder.fingerprint != generation.fingerprint:
            raise EmbedderMismatch(
                f"collection {collection!r} holds vectors of {generation.fingerprint!r}, "
                f"but queries are embedded with {embedder.fingerprint!r}"
            )
        return vectors

    def _check(self, query: str, top_k: int) -> None:
        check_text(query, "the query")
        if not query.strip():
            raise BadRequest("the query is empty")
        if len(query) > _MAX_QUERY_CHARS:
            raise BadRequest(f"the query has {len(query)} characters, at most {_MAX_QUERY_CHARS} are accepted")
        if not 1 <= top_k <= self._settings.search_max_top_k:
            raise BadRequest(f"top_k is {top_k}, it must be 1 to {self._settings.search_max_top_k}")


@dataclass(frozen=True, slots=True)
class _Asked:
    query: str
    top_k: int
    effort: Effort
    mode: SearchMode
    where: Filter | None

    @property
    def options(self) -> Sequence[int | str]:
        """What hits depend on besides the query."""
        return self.top_k, self.effort, self.mode, "" if self.where is None else filter_text(self.where)
