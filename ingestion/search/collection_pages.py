"""The pages of a collection that a search may find, read once for each version of the collection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from cachetools import LRUCache, TTLCache
from numpy.typing import NDArray

from ingestion.ports import PageRange, ReadyPages, Searchable
from ingestion.search.code_reader import SegmentRef
from ingestion.vectors.sign_codes import segment_starts

_COUNT_S: Final = 10.0
"""How long a number of pages is used. It decides how to search, not what is found."""
_INCOMPLETE_S: Final = 10.0
"""How long a list is used in which documents lack sign codes or terms: the janitor may make these meanwhile."""
_MOST_COLLECTIONS: Final = 1_000
_MOST_RANGES: Final = 500_000


class CollectionPages:
    """The pages of a collection in one generation that a search may find: all of them, or those that a filter allows.

    Every ranking of a search obeys the same object: a page outside of it is not a candidate.
    """

    def __init__(self, ranges: Sequence[PageRange], generation: int) -> None:
        self.ranges = ranges
        self._generation = generation

    @cached_property
    def count(self) -> int:
        """The number of pages."""
        return sum(one.pages for one in self.ranges)

    @cached_property
    def page_keys(self) -> Sequence[range]:
        """The page keys, in order. Ranges that touch each other are one."""
        merged: list[range] = []
        for one in self.ranges:
            keys = range(one.first_page_key, one.first_page_key + one.pages)
            if merged and merged[-1].stop == keys.start:
                merged[-1] = range(merged[-1].start, keys.stop)
            else:
                merged.append(keys)
        return merged

    def contains(self, page_keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(pages,) -> (pages,): which of these pages a search may find."""
        starts, stops = self._bounds
        at = np.searchsorted(starts, page_keys, side="right") - 1
        if not len(starts):
            return np.zeros(len(page_keys), np.bool_)
        return np.asarray((at >= 0) & (page_keys < stops[at]), np.bool_)

    @cached_property
    def _bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = np.array([keys.start for keys in self.page_keys], np.int64)
        return starts, np.array([keys.stop for keys in self.page_keys], np.int64)

    @cached_property
    def have_codes(self) -> bool:
        return all(one.has_codes for one in self.ranges)

    @cached_property
    def without_terms(self) -> frozenset[str]:
        """The ids of the documents without terms."""
        return frozenset(one.document_id for one in self.ranges if not one.has_terms)

    @property
    def is_complete(self) -> bool:
        """Whether all documents have what this release keeps beside their vectors and texts."""
        return self.have_codes and not self.without_terms

    @cached_property
    def segments(self) -> Sequence[SegmentRef]:
        """The segments of all pages, in the order of page keys."""
        return [segment for one in self.ranges for segment in segments_of(one, self._generation)]

    @cached_property
    def _firsts(self) -> list[int]:
        return [one.first_page_key for one in self.ranges]

    def documents_of(self, page_keys: Sequence[int]) -> dict[int, str]:
        """The id of the document of each page of the collection."""
        return {key: self.ranges[bisect_right(self._firsts, key) - 1].document_id for key in page_keys}

    def number_of(self, page_key: int) -> int:
        """The page's number in its document, from 1."""
        return page_key - self._firsts[bisect_right(self._firsts, page_key) - 1] + 1


def segments_of(pages: PageRange, generation: int) -> list[SegmentRef]:
    keys = range(pages.first_page_key, pages.first_page_key + pages.pages)
    return [SegmentRef.of_page(pages.document_id, keys, first, generation) for first in segment_starts(pages.pages)]


@dataclass(frozen=True, slots=True)
class _Key:
    collection: str
    generation: int
    version: str


def _size(pages: CollectionPages) -> int:
    return len(pages.ranges) + 1


class CollectionPageLists:
    """Between two reads of the same version no document became ready: see `CollectionVersions`.

    A document of a list may have been deleted. `PageFinder` checks that the document of a page is ready
    before it returns the page.
    """

    def __init__(self, ready_pages: ReadyPages) -> None:
        self._ready_pages = ready_pages
        self._counts: TTLCache[str, int] = TTLCache(_MOST_COLLECTIONS, _COUNT_S)
        self._lists: LRUCache[_Key, CollectionPages] = LRUCache(_MOST_RANGES, getsizeof=_size)
        # What the janitor makes for documents changes no version.
        self._incomplete: TTLCache[_Key, CollectionPages] = TTLCache(_MOST_RANGES, _INCOMPLETE_S, getsizeof=_size)

    async def count(self, collection: str) -> int:
        """About how many ready pages the collection has."""
        count = self._counts.get(collection)
        if count is None:
            count = self._counts[collection] = await self._ready_pages.count_ready_pages(collection)
        return count

    async def of(self, view: Searchable) -> CollectionPages:
        """All ready pages of the collection's current generation."""
        binding = view.binding
        number = binding.current.number
        key = None if view.version is None else _Key(binding.collection, number, view.version)
        known = None if key is None else self._lists.get(key) or self._incomplete.get(key)
        if known is not None:
            return known
        pages = CollectionPages(await self._ready_pages.ready_page_ranges(binding.collection, number), number)
        if key is not None and len(pages.ranges) < _MOST_RANGES:
            (self._lists if pages.is_complete else self._incomplete)[key] = pages
        return pages
