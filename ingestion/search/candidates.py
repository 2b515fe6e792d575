"""Candidate pages: what the ANN index says about pages, and which of those are of ready documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingestion import metrics
from ingestion.generations import Generation, index_of
from ingestion.model import Document, Vectors
from ingestion.ports import DocumentStore
from ingestion.search.bounded import BoundedCache
from ingestion.search.gathering import GatheredSearch, Neighbours

_WIDEN_BY: Final = 4
_WIDEST_LIMIT: Final = 6400
_PLACES_KEPT: Final = 200_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A page of a ready document; `page_number` counts from 1."""

    page_key: int
    page_number: int
    document: Document


class Candidates:
    """Finds the pages that are worth an exact look."""

    def __init__(self, index: GatheredSearch, documents: DocumentStore, ann_limit: int) -> None:
        self._index = index
        self._documents = documents
        self._ann_limit = ann_limit
        # A page key is given out once and for all, so what it stands for never changes.
        self._document_of: BoundedCache[int, str] = BoundedCache(_PLACES_KEPT)

    async def find(
        self,
        collection: str,
        generation: Generation,
        query: Vectors,
        wanted: int,
        unchanged_s: float,
        *,
        needed: int = 1,
    ) -> list[Candidate]:
        """The pages of ready documents that the ANN rates best, at most `wanted`. `unchanged_s`: see `Standing`.

        Rows of documents that are not ready take up places in the answer, and so do the many rows of a page. Where
        pages were left out as not ready, or fewer than `needed` were reached, while the index has more to give, it is
        asked again for more rows, as long as those are of further pages.
        """
        index, limit, reached = index_of(collection, generation.number), self._ann_limit, 0
        while True:
            with metrics.SEARCH.labels("ann").time():
                neighbours = await self._index.search(index, query, limit, unchanged_s)
            best = approximate_scores(neighbours)
            candidates = await self._ready(best, generation, wanted)
            is_enough = len(candidates) >= wanted or len(candidates) == len(best) >= needed
            exhausted = all(len(rows) < limit for rows in neighbours) or len(best) == reached
            if is_enough or exhausted or limit >= _WIDEST_LIMIT:
                return candidates
            limit, reached = limit * _WIDEN_BY, len(best)

    async def _ready(self, page_keys: Sequence[int], generation: Generation, wanted: int) -> list[Candidate]:
        """The first `wanted` of these pages whose documents are ready in that generation, in the given order.

        Mostly all are, so no more are looked at than it takes.
        """
        found: list[Candidate] = []
        for start in range(0, len(page_keys), wanted):
            with metrics.SEARCH.labels("records").time():
                found += await self._ready_of(page_keys[start : start + wanted], generation)
            if len(found) >= wanted:
                break
        return found[:wanted]

    async def _ready_of(self, page_keys: Sequence[int], generation: Generation) -> list[Candidate]:
        document_of = await self._documents_of(page_keys)
        documents = await self._documents.ready_documents(set(document_of.values()))
        return [
            Candidate(key, key - document.first_page_key + 1, document)
            for key in page_keys
            if (document := documents.get(document_of.get(key, ""))) is not None
            # A document that was deleted and uploaded again has another range of keys.
            and key in document.page_keys
            and document.is_in(generation.number)
        ]

    async def _documents_of(self, page_keys: Sequence[int]) -> dict[int, str]:
        """The document of each page that has a record."""
        known = {key: document for key in page_keys if (document := self._document_of.get(key)) is not None}
        missing = [key for key in page_keys if key not in known]
        if missing:
            for key, record in (await self._documents.pages_by_key(missing)).items():
                known[key] = record.document_id
                self._document_of.put(key, record.document_id)
        return known


def approximate_scores(neighbours: Neighbours) -> list[int]:
    """Page keys, best first, by MaxSim over the rows that the ANN returned for each query token.

    A page that a token did not reach gets that token's lowest returned score, an upper bound of its true one, as in
    XTR (Lee et al., 2023): otherwise a page would lose to others merely for having been cut off.
    """
    best: dict[int, dict[int, float]] = {}
    for token, rows in enumerate(neighbours):
        for page_key, score in rows:
            reached = best.setdefault(page_key, {})
            reached[token] = max(score, reached.get(token, score))
    floors = [min((score for _, score in rows), default=0.0) for rows in neighbours]
    base = sum(floors)
    totals = {key: base + sum(s - floors[token] for token, s in reached.items()) for key, reached in best.items()}
    return sorted(totals, key=lambda key: (-totals[key], key))
