"""Candidate pages: the pages that the ANN index ranks best, of documents that are ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cachetools import LRUCache

from ingestion import metrics
from ingestion.catalogue.generations import Generation, index_of
from ingestion.model import Document, Vectors
from ingestion.ports import DocumentReader, PageRecords
from ingestion.search.admission import ReservedRows
from ingestion.search.coalescing import SearchCoalescer
from ingestion.search.stages import search_stage

_WIDEN_BY: Final = 4
_WIDEST_LIMIT: Final = 6400
_MAX_CACHED_PAGES: Final = 200_000
_READ_AT_ONCE: Final = 512
"""Pages whose records are read in one request."""


class CandidateRecords(DocumentReader, PageRecords, Protocol):
    """What the search for candidate pages reads."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A page of a ready document; `page_number` counts from 1."""

    page_key: int
    page_number: int
    document: Document


@dataclass(frozen=True, slots=True)
class CandidateQuery:
    """How many pages a search wants: at most `most`, and `enough` of them where the index has so many.

    Fewer do where all pages that the index shows are ready, and they are `needed` at least. `limit`: the rows asked of
    the index for each query token. `stable_for_s`: see `VersionAge`.
    """

    most: int
    enough: int
    limit: int
    needed: int = 1
    stable_for_s: float = 0.0


class Candidates:
    """Finds pages that are worth ranking. Safe to use from many tasks at once."""

    def __init__(self, index: SearchCoalescer, records: CandidateRecords) -> None:
        self._index = index
        self._records = records
        # A page key belongs to one document for ever, so an entry never becomes wrong.
        self._document_of: LRUCache[int, str] = LRUCache(_MAX_CACHED_PAGES)

    async def find(
        self,
        collection: str,
        generation: Generation,
        query: Vectors,
        wanted: CandidateQuery,
        reserved: ReservedRows,
        within: Sequence[range] | None = None,
    ) -> list[Candidate]:
        """The pages of ready documents that the ANN index ranks best. Resizes `reserved` before each request.

        `within`: the index looks only at pages with these keys.

        An answer of the index also has rows of documents that are not ready, and many rows of one page. Where that
        leaves too few pages, this asks again for more rows, until the index has no more or gives no further pages.
        """
        index, limit, reached = index_of(collection, generation.number), wanted.limit, 0
        while True:
            reserved.resize(len(query), limit)
            with search_stage("ann"):
                scores = await self._index.search(index, query, limit, wanted.stable_for_s, within)
            best: list[int] = scores.page_keys.tolist()
            candidates = await self._ready(best, generation, wanted.most)
            is_enough = len(candidates) >= wanted.enough or len(candidates) == len(best) >= wanted.needed
            exhausted = not scores.is_cut_off or len(best) == reached
            if is_enough or exhausted or limit >= _WIDEST_LIMIT:
                metrics.STAGE_PAGES.labels("index", "in").inc(len(best))
                metrics.STAGE_PAGES.labels("index", "out").inc(len(candidates))
                return candidates
            limit, reached = limit * _WIDEN_BY, len(best)

    async def ready(
        self, page_keys: Sequence[int], document_of: Mapping[int, str], generation: Generation
    ) -> list[Candidate]:
        """Those of the pages whose documents are ready in the generation now, in the given order."""
        documents = await self._records.ready_documents(set(document_of.values()))
        return [
            Candidate(key, key - document.first_page_key + 1, document)
            for key in page_keys
            if (document := documents.get(document_of.get(key, ""))) is not None
            # A document that was deleted and uploaded again has another range of keys.
            and key in document.page_keys
            and document.is_in(generation.number)
        ]

    async def _ready(self, page_keys: Sequence[int], generation: Generation, wanted: int) -> list[Candidate]:
        """The first `wanted` of these pages whose documents are ready in that generation, in the given order."""
        found: list[Candidate] = []
        step = min(wanted, _READ_AT_ONCE)
        for start in range(0, len(page_keys), step):
            part = page_keys[start : start + step]
            with search_stage("records"):
                found += await self.ready(part, await self._documents_of(part), generation)
            if len(found) >= wanted:
                break
        return found[:wanted]

    async def _documents_of(self, page_keys: Sequence[int]) -> dict[int, str]:
        """The id of each page's document. Pages without a record are left out."""
        known = {key: document for key in page_keys if (document := self._document_of.get(key)) is not None}
        missing = [key for key in page_keys if key not in known]
        if missing:
            for key, record in (await self._records.pages_by_key(missing)).items():
                known[key] = record.document_id
                self._document_of[key] = record.document_id
        return known
