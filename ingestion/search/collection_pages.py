"""The pages of a collection that a search may find, read once for each version of the collection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cachetools import LRUCache, TTLCache

from ingestion.filters import Filter, filter_text
from ingestion.ports import PageRange, ReadyPages, Searchable
from ingestion.search.code_reader import SegmentRef
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.filter_columns import CollectionColumns
from ingestion.vectors.sign_codes import segment_starts

_COUNT_S: Final = 10.0
"""How long a number of pages is used. It decides how to search, not what is found."""
_INCOMPLETE_S: Final = 10.0
"""How long a list is used in which documents lack sign codes or terms: the janitor may make these meanwhile."""
_FILTERED_S: Final = 300.0
"""How long the pages of a filter are used: a process that dies while it changes metadata may leave a wrong list."""
_MOST_FILTERED: Final = 50_000
"""Pages of the largest collection whose filters are evaluated here: the list of all of them is read."""
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

    def within(self, first_page_keys: Collection[int]) -> CollectionPages:
        """The pages of the documents with these first page keys."""
        return CollectionPages([one for one in self.ranges if one.first_page_key in first_page_keys], self._generation)

    @property
    def first_page_keys(self) -> Sequence[int]:
        """The first page key of each document, in order."""
        return self._firsts

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
    where: str
    """The text of the filter: as values, true and 1 are equal."""


def _size(pages: CollectionPages) -> int:
    return len(pages.ranges) + 1


class CollectionPageLists:
    """Between two reads of the same version no document became ready: see `CollectionVersions`.

    A document of a list may have been deleted. `PageFinder` checks that the document of a page is ready
    before it returns the page.
    """

    def __init__(self, ready_pages: ReadyPages, cpu_threads: CpuThreads) -> None:
        self._ready_pages = ready_pages
        self._columns = CollectionColumns(ready_pages, cpu_threads)
        self._counts: TTLCache[str, int] = TTLCache(_MOST_COLLECTIONS, _COUNT_S)
        self._lists: LRUCache[_Key, CollectionPages] = LRUCache(_MOST_RANGES, getsizeof=_size)
        self._filtered: TTLCache[_Key, CollectionPages] = TTLCache(_MOST_RANGES, _FILTERED_S, getsizeof=_size)
        # What the janitor makes for documents changes no version.
        self._incomplete: TTLCache[_Key, CollectionPages] = TTLCache(_MOST_RANGES, _INCOMPLETE_S, getsizeof=_size)

    async def count(self, collection: str) -> int:
        """About how many ready pages the collection has."""
        count = self._counts.get(collection)
        if count is None:
            count = self._counts[collection] = await self._ready_pages.count_ready_pages(collection)
        return count

    async def of(self, view: Searchable, where: Filter | None = None) -> CollectionPages:
        """The pages of the collection's current generation that a search may find.

        `where`: only those of documents for which it holds. Searches with equal filters get the same list, and share
        their work on it.
        """
        key = _key_of(view, where)
        lists = self._lists if where is None else self._filtered
        known = None if key is None else lists.get(key) or self._incomplete.get(key)
        if known is not None:
            return known
        pages = None if where is None else await self._selected(view, where)
        if pages is None:
            generation = view.binding.current.number
            ranges = await self._ready_pages.ready_page_ranges(view.binding.collection, generation, where)
            pages = CollectionPages(ranges, generation)
        if key is not None and len(pages.ranges) < _MOST_RANGES:
            (lists if pages.is_complete else self._incomplete)[key] = pages
        return pages

    async def _selected(self, view: Searchable, where: Filter) -> CollectionPages | None:
        """The pages that the filter allows, of the list of all pages. None where the store has to list them.

        The list has the newest version of each key only. A newer one that became ready since is found by `Searcher`,
        because its former version is still in the list.
        """
        collection = view.binding.collection
        if view.version is None or not self._columns.can_evaluate((collection, view.version)):
            return None
        if await self.count(collection) > _MOST_FILTERED:
            return None
        listed = await self.of(view)
        selected = await self._columns.selected((collection, view.version), where, listed.first_page_keys)
        return None if selected is None else listed.within(selected)


def _key_of(view: Searchable, where: Filter | None) -> _Key | None:
    if view.version is None:
        return None
    text = "" if where is None else filter_text(where)
    return _Key(view.binding.collection, view.binding.current.number, view.version, text)
