"""Finds the best pages of a collection in three stages.

1. The ANN index shows pages, or, where that costs less, all pages of the collection are taken.
2. MaxSim over sign codes ranks them: see `code_scoring`.
3. Exact MaxSim scores the best few dozen.

Pages whose documents have no sign codes yet, as an earlier release left them, are ranked by the index alone. So that
none of them is missed, more of them are scored exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ingestion.catalogue.generations import Generation
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.effort import Effort
from ingestion.errors import NotFound, WorkerFault
from ingestion.filters import Filter
from ingestion.model import SIGN_CODE_FORMAT, Vectors
from ingestion.ports import BlobStore, ReadyPages, Searchable, VectorStore
from ingestion.search.admission import ReservedRows
from ingestion.search.candidates import Candidate, CandidateQuery, CandidateRecords, Candidates
from ingestion.search.coalescing import SearchCoalescer
from ingestion.search.code_ranking import CodeRanker, ShownPage
from ingestion.search.code_reader import CodeReader, SegmentRef
from ingestion.search.collection_pages import CollectionPageLists, CollectionPages
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.planning import SearchPlan, plan_search
from ingestion.search.reranking import Reranker, ranked
from ingestion.search.stages import search_stage
from ingestion.settings import SearchSettings
from ingestion.vectors.blob_reader import VectorBlobRef

_TRIES: Final = 3
_MOST_SHOWN: Final = 4096
_SCORED_WITHOUT_CODES: Final = 128
"""Pages without sign codes that are scored exactly in a search."""
_SPARE: Final = 2
"""So many times the pages that are scored are ranked: some documents may just have been deleted."""

Ranked = list[tuple[Candidate, float]]


class FinderRecords(CandidateRecords, ReadyPages, Protocol):
    """The ports that finding pages reads."""


@dataclass(frozen=True, slots=True)
class _Unchecked:
    """Pages by their sign codes, best first. Their documents were ready when the pages were listed."""

    page_keys: Sequence[int]
    pages: CollectionPages
    wanted: int
    """How many of them to score."""


class PageFinder:
    """Safe to use from many tasks at once."""

    def __init__(
        self,
        *,
        vectors: VectorStore,
        records: FinderRecords,
        blobs: BlobStore,
        settings: SearchSettings,
        cpu_threads: CpuThreads,
    ) -> None:
        self._settings = settings
        self._lists = CollectionPageLists(records, cpu_threads)
        index = SearchCoalescer(vectors, settings.search_ann_requests, cpu_threads)
        self._candidates = Candidates(index, records)
        reader = CodeReader(blobs, settings.search_code_cache_bytes)
        self._codes = CodeRanker(reader, cpu_threads, settings.search_code_read_bytes)
        self._reranker = Reranker(
            blobs,
            cpu_threads,
            cache_bytes=settings.search_page_cache_bytes,
            limit_bytes=settings.search_limit_bytes,
        )

    async def pages_of(self, view: Searchable, where: Filter | None = None) -> CollectionPages:
        """All pages of the collection that a search may find. `where`: only of documents for which it holds."""
        with search_stage("pages"):
            return await self._lists.of(view, where)

    async def count_pages(self, view: Searchable) -> int:
        """About how many ready pages the collection has."""
        with search_stage("pages"):
            return await self._lists.count(view.binding.collection)

    async def plan(
        self, view: Searchable, effort: Effort, top_k: int, allowed: CollectionPages | None = None
    ) -> SearchPlan:
        """The plan of a search, for the number of pages that it may find now."""
        pages = await self.count_pages(view) if allowed is None else allowed.count
        return plan_search(effort, top_k, pages, int(pages * self._codes.mean_page_bytes), self._settings)

    async def best(
        self,
        view: Searchable,
        query: Vectors,
        plan: SearchPlan,
        reserved: ReservedRows,
        stable_for_s: float,
        allowed: CollectionPages | None = None,
    ) -> Ranked:
        """The `plan.scored_pages` best pages with their exact scores, best first. `allowed`: only of these pages.

        Raises DependencyUnavailable, WorkerFault where the vectors of a ready page are missing or unreadable.
        """
        for _ in range(_TRIES):
            candidates = await self._shortlist(view, query, plan, reserved, stable_for_s, allowed)
            if isinstance(candidates, _Unchecked):
                found = await self._checked_and_scored(view, query, candidates)
                if found is not None:
                    return found
                candidates = await self.first_ready(
                    candidates.page_keys, candidates.pages, view.binding.current, plan.scored_pages
                )
            try:
                return await self._reranker.rank(query, candidates, view.binding.current)
            except NotFound:
                continue  # a document was deleted after it had become a candidate: search again without it
        raise WorkerFault(
            f"pages of {view.binding.collection!r} lack their vectors in the object store", stage="search"
        )

    async def _shortlist(
        self,
        view: Searchable,
        query: Vectors,
        plan: SearchPlan,
        reserved: ReservedRows,
        stable_for_s: float,
        allowed: CollectionPages | None,
    ) -> list[Candidate] | _Unchecked:
        """The pages to score exactly."""
        if plan.scans:
            reserved.resize(len(query), plan.cost_rows)
            pages = await self.pages_of(view) if allowed is None else allowed
            if pages.have_codes:
                found = await self._scanned(query, plan, pages)
                if found is not None:
                    return found
        return await self._shown(view, query, plan, reserved, stable_for_s, allowed)

    async def _scanned(self, query: Vectors, plan: SearchPlan, pages: CollectionPages) -> _Unchecked | None:
        """None where the codes of a document are not in the object store, although its record says so."""
        best = await self._codes.rank_all(
            query, pages.segments, refined=plan.refined_pages, most=_SPARE * plan.scored_pages
        )
        return None if best is None else _Unchecked(best, pages, plan.scored_pages)

    async def _checked_and_scored(self, view: Searchable, query: Vectors, best: _Unchecked) -> Ranked | None:
        """Score the best pages, and look meanwhile whether their documents are ready. None where one is deleted."""
        generation = view.binding.current
        first = best.page_keys[: best.wanted]
        document_of = best.pages.documents_of(first)
        blobs = [(key, VectorBlobRef(document_of[key], best.pages.number_of(key), generation.number)) for key in first]
        checked: Any
        scores: Any
        try:
            checked, scores = await gather_or_cancel(
                self._ready(first, document_of, generation), self._reranker.scores(query, blobs)
            )
        except NotFound:
            return None
        return ranked(checked, scores) if len(checked) == len(first) else None

    async def _ready(
        self, page_keys: Sequence[int], document_of: Mapping[int, str], generation: Generation
    ) -> list[Candidate]:
        with search_stage("records"):
            return await self._candidates.ready(page_keys, document_of, generation)

    async def first_ready(
        self, page_keys: Sequence[int], pages: CollectionPages, generation: Generation, wanted: int
    ) -> list[Candidate]:
        """The first `wanted` of these pages of the collection whose documents are ready now."""
        found, seen = list[Candidate](), 0
        while len(found) < wanted and seen < len(page_keys):
            part = page_keys[seen : seen + wanted - len(found)]
            seen += len(part)
            found += await self._ready(part, pages.documents_of(part), generation)
        return found

    async def _shown(
        self,
        view: Searchable,
        query: Vectors,
        plan: SearchPlan,
        reserved: ReservedRows,
        stable_for_s: float,
        allowed: CollectionPages | None,
    ) -> list[Candidate]:
        binding = view.binding
        wanted = CandidateQuery(
            _MOST_SHOWN, plan.scored_pages, plan.ann_limit, needed=plan.top_k, stable_for_s=stable_for_s
        )
        within = None if allowed is None else allowed.page_keys
        shown = await self._candidates.find(binding.collection, binding.current, query, wanted, reserved, within)
        generation = binding.current.number
        ranking = await self._codes.rank_shown(
            query,
            [ShownPage(page.page_key, _segment_of(page, generation)) for page in shown],
            refined=plan.refined_pages,
            most=plan.scored_pages,
        )
        of_key = {page.page_key: page for page in shown}
        without = ranking.without_codes[: max(_SCORED_WITHOUT_CODES, plan.scored_pages)]
        return [of_key[key] for key in (*ranking.ranked, *without)]


def _segment_of(page: Candidate, generation: int) -> SegmentRef | None:
    document = page.document
    if document.codes_format != SIGN_CODE_FORMAT:
        return None
    return SegmentRef.of_page(document.id, document.page_keys, page.page_number, generation)
