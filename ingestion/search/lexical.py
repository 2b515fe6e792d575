"""Finds the pages of a collection that have the words of a query, by BM25 over the terms of all its pages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ingestion import metrics
from ingestion.ports import BlobStore, Searchable
from ingestion.search.bm25 import JoinedTerms
from ingestion.search.candidates import Candidate
from ingestion.search.code_reader import SegmentRef
from ingestion.search.code_scoring import best_first
from ingestion.search.collection_pages import CollectionPages
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.page_finder import PageFinder
from ingestion.search.segment_reader import SegmentKind, SegmentReader
from ingestion.search.stages import search_stage
from ingestion.terms.segment import TermSegment
from ingestion.terms.tokens import query_terms

_SPARE: Final = 2
"""So many times the pages that are wanted are ranked: some documents may just have been deleted."""
_FIRST_GUESS_BYTES: Final = 1024
"""The assumed size of a page's terms before any have been read."""
_SHARES: Final = 2
"""Half of the memory is for segments, half for the joined terms of collections."""


@dataclass(frozen=True, slots=True)
class LexicalHits:
    """`ranked`: pages of ready documents with their BM25 scores, best first. `notes`: why pages may be missing.

    `shares`: by page key, the share of the query's words that a page has.
    """

    ranked: list[tuple[Candidate, float]]
    shares: Mapping[int, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """`lacking`: the documents whose terms are not in the object store."""

    joined: JoinedTerms
    lacking: Collection[str]


class LexicalFinder:
    """Safe to use from many tasks at once."""

    def __init__(self, finder: PageFinder, blobs: BlobStore, cpu_threads: CpuThreads, cache_bytes: int) -> None:
        self._finder = finder
        self._cpu_threads = cpu_threads
        self._share_bytes = cache_bytes // _SHARES
        self._page_bytes = float(_FIRST_GUESS_BYTES)
        """The size of a page's terms in the collection that was read last."""
        self._reader = SegmentReader(blobs, self._share_bytes, _TERMS)
        self._joined = LRUCache[CollectionPages, _Terms](self._share_bytes, lambda one: one.joined.size_bytes)

    async def best(
        self, view: Searchable, query: str, wanted: int, allowed: CollectionPages | None = None
    ) -> LexicalHits:
        """The `wanted` best pages. `allowed`: only of these pages; None: of all pages of the collection.

        A collection whose terms do not fit into memory has no pages, and a note. Raises DependencyUnavailable.
        """
        pages = await self._finder.count_pages(view)
        if (most_pages := int(self._share_bytes / self._page_bytes)) < pages:
            return LexicalHits(
                [],
                notes=[
                    f"words were not searched: the collection has about {pages} pages, and the "
                    f"terms of {most_pages} fit into PAGEMILL_SEARCH_TERM_CACHE_BYTES"
                ],
            )
        listed = await self._finder.pages_of(view)
        terms = await self._terms_of(listed)
        with search_stage("bm25"):
            best, scores, shares = await self._cpu_threads.run(
                _ranked, terms.joined, query_terms(query), _mask(listed, allowed), _SPARE * wanted
            )
        keys = _keys_at(listed.segments, terms.joined.page_starts, best)
        score_of = dict(zip(keys, scores.tolist(), strict=True))
        share_of = dict(zip(keys, shares.tolist(), strict=True))
        found = await self._finder.first_ready(keys, listed, view.binding.current, wanted)
        metrics.STAGE_PAGES.labels("terms", "in").inc(len(terms.joined.lengths))
        metrics.STAGE_PAGES.labels("terms", "out").inc(len(found))
        return LexicalHits([(page, score_of[page.page_key]) for page in found], share_of, _notes(terms.lacking))

    async def _terms_of(self, listed: CollectionPages) -> _Terms:
        known = self._joined.get(listed)
        if known is not None:
            return known
        with search_stage("terms"):
            refs = [ref for ref in listed.segments if ref.document_id not in listed.without_terms]
            read = dict(zip(refs, await self._reader.read(refs), strict=True))
            segments = [read.get(ref) for ref in listed.segments]
            joined = await self._cpu_threads.run(JoinedTerms.of, segments, [ref.pages for ref in listed.segments])
        lacking = {ref.document_id for ref, segment in zip(listed.segments, segments, strict=True) if segment is None}
        terms = _Terms(joined, lacking)
        if len(joined.lengths):
            self._page_bytes = max(_FIRST_GUESS_BYTES, joined.size_bytes / len(joined.lengths))
        if not lacking and joined.size_bytes <= self._joined.maxsize:  # what lacks may be there soon
            self._joined[listed] = terms
        return terms


def _decoded(ref: SegmentRef, data: bytes) -> TermSegment:
    segment = TermSegment.decode(data)
    if segment.pages != ref.pages:
        raise ValueError(f"they are of {segment.pages} pages, not of {ref.pages}")
    return segment


_TERMS: Final = SegmentKind[SegmentRef, TermSegment](
    "terms",
    key_of=lambda ref: ref.terms_key,
    decode=_decoded,
    size_of=lambda segment: segment.size_bytes,
    outcomes=metrics.TERM_CACHE,
    bytes=metrics.TERM_CACHE_BYTES,
)


def _ranked(
    joined: JoinedTerms, terms: Mapping[str, float], mask: NDArray[np.bool_] | None, most: int
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """The positions of the best pages that have a term, their scores, and the shares of the terms that they have."""
    scores, shares = joined.scores_and_shares(terms)
    if mask is not None:
        scores[~mask] = 0
    best = best_first(scores, most)
    best = best[scores[best] > 0]
    return best, scores[best], shares[best]


def _mask(listed: CollectionPages, allowed: CollectionPages | None) -> NDArray[np.bool_] | None:
    """(pages,) whether each page is allowed. None where all are."""
    if allowed is None:
        return None
    firsts = {one.first_page_key for one in allowed.ranges}
    is_allowed = [one.first_page_key in firsts for one in listed.ranges]
    return np.repeat(np.array(is_allowed, bool), [one.pages for one in listed.ranges])


def _keys_at(segments: Sequence[SegmentRef], starts: NDArray[np.int64], positions: NDArray[np.intp]) -> list[int]:
    """The keys of the pages at `positions`, which count the pages of all segments one after another."""
    at = np.searchsorted(starts, positions, side="right") - 1
    return [
        segments[segment].page_keys[position - int(starts[segment])]
        for segment, position in zip(at.tolist(), positions.tolist(), strict=True)
    ]


def _notes(lacking: Collection[str]) -> list[str]:
    if not lacking:
        return []
    return [
        f"words were not searched in {len(lacking)} document(s) that have no terms yet; the janitor makes them, or "
        "`pagemill janitor`"
    ]
