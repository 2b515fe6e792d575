"""Searches with a filter, and searches while a document is replaced, through each way to find pages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ingestion.effort import Effort
from ingestion.filters import Filter, parse_filter
from ingestion.filters.columns import DocumentColumns
from ingestion.model import Document, Vectors
from ingestion.ports import Searchable
from tests.memory import MemoryDocumentStore
from tests.unit.test_page_finding import CountingVectors, KnownQueries, Library

THROUGH_THE_INDEX = {"search_scan_pages": 1}
WAYS = pytest.mark.parametrize(
    ("effort", "settings", "has_codes"),
    [
        (Effort.BALANCED, {}, True),
        (Effort.FAST, THROUGH_THE_INDEX, True),
        (Effort.BALANCED, {}, False),
        (Effort.EXHAUSTIVE, {}, True),
    ],
    ids=["all pages", "index", "without codes", "exhaustive"],
)
FEW = parse_filter("team = 'few'")


async def found(searcher: Any, query: str, where: Any = None, top: int = 5, effort: Effort = Effort.BALANCED) -> Any:
    return [(hit.document_id, hit.page) for hit in await searcher.search("c", query, top, effort, where)]


@WAYS
async def test_a_filter_that_leaves_few_documents_finds_all_of_their_pages(
    effort: Effort, settings: dict[str, Any], *, has_codes: bool
) -> None:
    library = Library()
    for number in range(30):
        team = "few" if number in (3, 17) else "many"
        await library.add(f"d{number}", 20, has_codes=has_codes, metadata={"team": team})
    searcher = library.searcher(search_ann_limit=200, **settings)
    wanted = {(id_, page) for id_ in ("d3", "d17") for page in range(1, 21)}
    for query in ("1", "2", "3"):
        hits = await found(searcher, query, FEW, top=40, effort=effort)
        assert set(hits) == wanted
        assert hits == [place for place in library.best(query, 600) if place in wanted]
    assert await found(searcher, "1", parse_filter("team = 'none'"), effort=effort) == []


async def test_equal_numbers_and_truth_values_have_lists_of_their_own() -> None:
    library = Library()
    await library.add("number", 1, metadata={"a": 1})
    await library.add("truth", 1, metadata={"a": True})
    searcher = library.searcher()
    assert await found(searcher, "1", parse_filter("a = 1")) == [("number", 1)]
    assert await found(searcher, "1", parse_filter("a = true")) == [("truth", 1)]


async def test_a_change_of_metadata_is_seen_by_the_next_search() -> None:
    library = Library()
    known = await library.add("d", 1, metadata={"team": "few"})
    searcher = library.searcher()
    assert await found(searcher, "1", FEW) == [("d", 1)]
    assert await library.records.change_metadata(known, {}, ())
    assert await found(searcher, "1", FEW) == []


@WAYS
async def test_a_search_finds_the_newest_version_alone(
    effort: Effort, settings: dict[str, Any], *, has_codes: bool
) -> None:
    library = Library()
    await library.add("other", 3, has_codes=has_codes)
    await library.add("old", 2, has_codes=has_codes, key="k")
    searcher = library.searcher(**settings)
    assert {id_ for id_, _ in await found(searcher, "1", effort=effort)} == {"other", "old"}
    await library.add("new", 2, has_codes=has_codes, key="k")
    assert {id_ for id_, _ in await found(searcher, "1", effort=effort)} == {"other", "new"}


class CountingRecords(MemoryDocumentStore):
    """Notes the filters that it evaluates. `has_version`: whether the collections have one."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluated: list[Any] = []
        self.has_version = True

    async def searchable(self, collection: str) -> Searchable | None:
        view = await super().searchable(collection)
        return view if view is None or self.has_version else replace(view, version=None)

    async def ready_page_ranges(self, collection: str, generation: int, where: Filter | None = None) -> Any:
        if where is not None:
            self.evaluated.append(where)
        return await super().ready_page_ranges(collection, generation, where)


async def numbered() -> tuple[Library, CountingRecords]:
    records = CountingRecords()
    library = Library(records=records)
    for number in range(8):
        await library.add(f"d{number}", 2, metadata={"number": number})
    return library, records


@WAYS
async def test_the_store_evaluates_one_filter_for_each_version(
    effort: Effort, settings: dict[str, Any], *, has_codes: bool
) -> None:
    library, records = await numbered()
    if not has_codes:
        await library.add("without codes", 1, has_codes=False)
    searcher = library.searcher(**settings)
    for most in range(1, 6):
        hits = await found(searcher, "1", parse_filter(f"number < {most}"), top=20, effort=effort)
        assert set(hits) == {(f"d{number}", page) for number in range(most) for page in (1, 2)}
    assert len(records.evaluated) == 1
    await library.add("d9", 1, metadata={"number": 0})
    for most in range(6, 9):
        hits = await found(searcher, "1", parse_filter(f"number < {most}"), top=20, effort=effort)
        assert len(hits) == 1 + 2 * most
    assert len(records.evaluated) == 2


@pytest.mark.parametrize(
    "limit",
    [
        "collection_pages._MOST_FILTERED",
        "filter_columns._MOST_OF_ONE_BYTES",
        "filter_columns._MOST_WORK",
        "no version",
    ],
)
async def test_the_store_evaluates_filters_of_collections_that_are_too_large_or_change(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, records = await numbered()
    records.has_version = limit != "no version"
    if records.has_version:
        monkeypatch.setattr(f"ingestion.search.{limit}", 1)
    searcher = library.searcher()
    for most in range(1, 5):
        hits = await found(searcher, "1", parse_filter(f"number < {most}"), top=20)
        assert set(hits) == {(f"d{number}", page) for number in range(most) for page in (1, 2)}
    assert len(records.evaluated) == 4


async def test_filters_that_come_together_share_two_reads_of_the_documents_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library, records = await numbered()
    reads, threads = [], set()
    filterable_documents, extend = records.filterable_documents, DocumentColumns.extend

    async def counted(collection: str, *, after: int, limit: int) -> Any:
        reads.append(after)
        await asyncio.sleep(0)
        return await filterable_documents(collection, after=after, limit=limit)

    def noted(columns: DocumentColumns, documents: Sequence[Document]) -> None:
        threads.add(threading.current_thread())
        extend(columns, documents)

    monkeypatch.setattr(records, "filterable_documents", counted)
    monkeypatch.setattr(DocumentColumns, "extend", noted)
    searcher = library.searcher()
    await found(searcher, "1", parse_filter("number < 1"))
    hits = await asyncio.gather(*(found(searcher, "1", parse_filter(f"number < {most}"), 20) for most in range(2, 8)))
    assert [len(one) for one in hits] == [2 * most for most in range(2, 8)]
    assert len([after for after in reads if after == -1]) == 2, "of six filters"
    assert threads and threading.current_thread() not in threads


@pytest.mark.parametrize("is_listed_before", [True, False])
async def test_a_new_filter_sees_the_newest_version_of_a_key(*, is_listed_before: bool) -> None:
    library = Library()
    await library.add("old", 2, key="k", metadata={"number": 0})
    await library.add("new", 2, key="k", metadata={"number": 1})
    searcher = library.searcher()
    if is_listed_before:
        assert {id_ for id_, _ in await found(searcher, "1")} == {"new"}
    for most, expected in ((0, set()), (1, set()), (2, {"new"}), (3, {"new"})):
        assert {id_ for id_, _ in await found(searcher, "1", parse_filter(f"number < {most}"))} == expected


class LateRecords(CountingRecords):
    """A document becomes ready while the columns are read: `become_ready`."""

    library: Library
    become_ready: dict[str, Any] | None = None

    async def filterable_documents(self, collection: str, *, after: int, limit: int) -> Any:
        found = await super().filterable_documents(collection, after=after, limit=limit)
        if self.become_ready is not None:
            late, self.become_ready = self.become_ready, None
            await self.library.add("late", 2, **late)
        return found


@pytest.mark.parametrize("key", ["", "k"])
async def test_a_filtered_search_finds_one_version_while_another_becomes_ready(key: str) -> None:
    records = LateRecords()
    records.library = library = Library(records=records)
    await library.add("old", 2, key="k", metadata={"number": 0})
    searcher = library.searcher()
    await found(searcher, "1", parse_filter("number < 1"))
    records.become_ready = {"key": key, "metadata": {"number": 0}}
    hits = await found(searcher, "1", parse_filter("number < 2"))
    assert {id_ for id_, _ in hits} == ({"late"} if key else {"old"})
    hits = await found(searcher, "1", parse_filter("number < 3"))
    assert {id_ for id_, _ in hits} == ({"late"} if key else {"old", "late"})


class ReplacingVectors(CountingVectors):
    """A new version becomes ready while the index answers a search."""

    library: Library

    async def search(self, collection: str, query: Vectors, limit: int, **options: Any) -> Any:
        answer = await super().search(collection, query, limit, **options)
        if len(self.limits) == 1:
            await self.library.add("new", 2, key="k")
        return answer


class ReplacingQueries(KnownQueries):
    """A new version becomes ready after the search has begun, and the former one is deleted at once, if wanted."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        await self._library.add("new", 2, key="k")
        return await super().embed_queries(queries)


async def test_a_version_that_becomes_ready_during_an_answer_of_the_index_is_found() -> None:
    library = Library(vectors=ReplacingVectors())
    assert isinstance(library.vectors, ReplacingVectors)
    library.vectors.library = library
    await library.add("old", 2, key="k")
    hits = await found(library.searcher(**THROUGH_THE_INDEX), "1")
    assert {id_ for id_, _ in hits} == {"new"}
    assert len(library.vectors.limits) == 2


@pytest.mark.parametrize("settings", [{}, THROUGH_THE_INDEX])
async def test_a_search_during_a_switch_finds_one_version(settings: dict[str, Any]) -> None:
    library = Library()
    await library.add("old", 2, key="k")
    searcher = library.searcher(**settings)
    searcher._embedder = ReplacingQueries(library)
    hits = await found(searcher, "1")
    assert {id_ for id_, _ in hits} in ({"old"}, {"new"})
    assert len(hits) == 2
