"""Columns of collections, for filters that a process evaluates itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cachetools import LRUCache, TTLCache

from ingestion.concurrency.deadline import within_budget
from ingestion.concurrency.shared_calls import SharedCalls
from ingestion.filters import Filter
from ingestion.filters.columns import DocumentColumns
from ingestion.ports import ReadyPages
from ingestion.search.cpu_threads import CpuThreads

_LIMIT_BYTES: Final = 96 * 2**20
"""Of all columns of a process."""
_MOST_OF_ONE_BYTES: Final = 32 * 2**20
"""Of the columns of one collection: 10,000 documents with names, dates and a number of their own take 10 MiB."""
_USED_S: Final = 300.0
"""How long columns are used: a process that dies while it changes metadata may leave wrong ones."""
_MOST_VERSIONS: Final = 1_000
_MOST_WORK: Final = 200_000
"""Values that a filter may look at: about 0.2 s of CPU time."""
_DOCUMENTS_AT_ONCE: Final = 1_000
_READS_AT_ONCE: Final = 2
"""Each takes memory beside the columns that are kept."""

Version = tuple[str, str]
"""A collection, and its version."""


class CollectionColumns:
    """The columns are read for the second filter of a version: many collections change between two filters."""

    def __init__(self, ready_pages: ReadyPages, cpu_threads: CpuThreads) -> None:
        self._ready_pages = ready_pages
        self._cpu_threads = cpu_threads
        self._asked: LRUCache[Version, None] = LRUCache(_MOST_VERSIONS)
        self._columns: TTLCache[Version, DocumentColumns] = TTLCache(
            _LIMIT_BYTES, _USED_S, getsizeof=lambda columns: columns.size_bytes
        )
        self._too_large: TTLCache[str, None] = TTLCache(_MOST_VERSIONS, _USED_S)
        self._reads = SharedCalls(
            self._read, at_once=_READS_AT_ONCE, fits=lambda together, version: version == together[0]
        )

    def can_evaluate(self, version: Version) -> bool:
        """False where the store has to evaluate a filter: the first one of a version, or columns are too large."""
        if version[0] in self._too_large:
            return False
        if version in self._columns or version in self._asked:
            return True
        self._asked[version] = None
        return False

    async def selected(self, version: Version, where: Filter, known: Collection[int]) -> set[int] | None:
        """The first page keys of the ready documents for which the filter holds.

        None where the store has to evaluate it: columns take too much memory, the filter takes too much time, or a
        document of `known`, first page keys as well, became ready after the columns were read.

        Raises DependencyUnavailable.
        """
        columns = self._columns.get(version)
        if columns is None:
            (answer,) = self._reads.submit([version])
            async with within_budget("mongodb"):
                columns = await answer
        if columns is None or columns.work(where) > _MOST_WORK or not columns.page_keys.issuperset(known):
            return None
        return await self._cpu_threads.run(columns.selected, where)

    async def _read(self, together: Sequence[Version]) -> list[DocumentColumns | None]:
        version = together[0]
        columns = self._columns.get(version)  # kept since the question was asked
        if columns is None and version[0] not in self._too_large:
            columns = await self._columns_of(version)
        return [columns] * len(together)

    async def _columns_of(self, version: Version) -> DocumentColumns | None:
        columns, after = DocumentColumns(), -1
        while found := await self._ready_pages.filterable_documents(version[0], after=after, limit=_DOCUMENTS_AT_ONCE):
            await self._cpu_threads.run(columns.extend, found)
            after = found[-1].first_page_key
            if columns.size_bytes > _MOST_OF_ONE_BYTES:
                self._too_large[version[0]] = None
                return None
        self._columns[version] = columns
        return columns
