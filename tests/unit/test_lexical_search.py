"""Searches for words, for meaning and for both, through the API on in-memory stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ingestion.errors import DependencyUnavailable
from ingestion.model import Document, Page, Vectors, terms_key, terms_keys
from ingestion.ports import Searchable
from ingestion.search_mode import SearchMode
from ingestion.settings import Settings
from tests.support.embedders import WordEmbedder
from tests.support.memory_api import COLLECTION, MemoryApi, memory_api
from tests.support.scripts import IDENTIFIERS, LANGUAGES
from workers.term_backfill import TermBackfill

FILLING = "this page is about something else "


@dataclass
class QueryEmbedder(WordEmbedder):
    """Refuses queries where it is down."""

    is_down: bool = False
    queries: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        self.queries += queries
        if self.is_down:
            raise DependencyUnavailable("embedder", "down")
        return await super().embed_queries(queries)


@pytest.fixture
def embedder() -> QueryEmbedder:
    return QueryEmbedder()


@pytest.fixture
def api(embedder: QueryEmbedder) -> MemoryApi:
    return memory_api(embedder)


async def add(api: MemoryApi, name: str, *texts: str) -> Document:
    return await api.add_ready([Page(n, 10, 10, b"picture", text) for n, text in enumerate(texts, 1)], name)


async def answer(api: MemoryApi, query: str, mode: str | None = "lexical", top_k: int = 5) -> dict[str, Any]:
    async with api.client() as client:
        body = {"query": query, "top_k": top_k, "mode": mode}
        found = await client.post(f"/collections/{COLLECTION}/search", json=body)
    assert found.status_code == 200, found.text
    return dict(found.json())


async def places(api: MemoryApi, query: str, mode: str | None = "lexical", top_k: int = 5) -> list[tuple[str, int]]:
    return [(hit["filename"], hit["page"]) for hit in (await answer(api, query, mode, top_k))["hits"]]


async def test_words_of_ten_languages_are_found_where_they_stand(api: MemoryApi) -> None:
    assert len({language.name for language in LANGUAGES}) == 10
    for language in LANGUAGES:
        await add(api, language.name, FILLING, language.text)
    for language in LANGUAGES:
        assert (await places(api, language.query))[0] == (language.name, 2), language.name


async def test_identifiers_are_found_whole_before_their_parts(api: MemoryApi) -> None:
    for number, (identifier, parts) in enumerate(IDENTIFIERS):
        await add(api, f"{number}", *(f"{FILLING} {words} and {FILLING}" for words in (identifier, " ".join(parts))))
    for number, (identifier, parts) in enumerate(IDENTIFIERS):
        pages = [page for name, page in await places(api, identifier) if name == f"{number}"]
        assert pages == [1, 2], identifier
        for part in parts:
            assert (f"{number}", 1) in await places(api, part, top_k=100), part


async def test_a_search_for_words_needs_no_embedder(api: MemoryApi, embedder: QueryEmbedder) -> None:
    await add(api, "a", "the spindle turns")
    embedder.is_down = True
    assert await places(api, "spindle") == [("a", 1)]
    assert embedder.queries == []


async def test_pages_without_the_words_are_no_hits_of_a_search_for_words(api: MemoryApi) -> None:
    await add(api, "a", "the spindle turns", FILLING)
    assert await places(api, "spindle") == [("a", 1)]
    assert await places(api, "unheard") == []
    assert len(await places(api, "spindle", "semantic")) == 2


async def test_hybrid_ranks_first_what_both_find_and_shows_what_either_finds(api: MemoryApi) -> None:
    await add(api, "a", FILLING, "the spindle turns", "E1234 means that a fuse is blown")
    both = await answer(api, "spindle", "hybrid")
    assert both["hits"][0]["page"] == 2
    assert {hit["page"] for hit in both["hits"]} == {1, 2, 3}
    assert (both["mode"], both["notes"]) == ("hybrid", [])
    assert both["hits"][0]["score"] == pytest.approx(2 / 6)


@pytest.mark.parametrize("mode", list(SearchMode))
async def test_the_mode_of_the_settings_is_that_of_a_search_that_names_none(mode: SearchMode) -> None:
    settings = Settings()
    settings.search = settings.search.model_copy(update={"search_mode": mode})
    api = memory_api(settings=settings)
    await add(api, "a", "the spindle turns")
    assert (await answer(api, "spindle", None))["mode"] == mode.value


async def test_an_unknown_mode_is_refused(api: MemoryApi) -> None:
    async with api.client() as client:
        found = await client.post(f"/collections/{COLLECTION}/search", json={"query": "x", "mode": "psychic"})
    assert (found.status_code, found.json()["code"]) == (422, "bad_request")


async def test_a_snippet_shows_the_words(api: MemoryApi) -> None:
    await add(api, "a", FILLING * 40 + "set MILVUS_URI first " + FILLING * 40)
    await add(api, "b", FILLING * 40 + "更换过滤器之前必须关闭水泵。" + FILLING * 40)
    assert "MILVUS_URI" in (await answer(api, "where is milvus_uri"))["hits"][0]["snippet"]
    assert "过滤器" in (await answer(api, "过滤器"))["hits"][0]["snippet"]


async def test_only_pages_of_ready_documents_are_found(api: MemoryApi) -> None:
    kept, gone = await add(api, "kept", "the spindle"), await add(api, "gone", "the spindle turns")
    assert sorted(await places(api, "spindle")) == [("gone", 1), ("kept", 1)]
    await api.services.documents.begin_delete(gone.id)
    assert await places(api, "spindle") == [("kept", 1)]
    await api.services.documents.begin_delete(kept.id)
    assert await places(api, "spindle") == []


async def test_a_document_without_terms_is_named_in_a_note_until_the_janitor_made_them(api: MemoryApi) -> None:
    await add(api, "new", "the spindle")
    old = await add(api, "old", "a spindle")
    await api.services.blobs.delete(terms_keys(old.id, old.pages))
    assert await api.services.documents.set_terms_format(old, 0)
    for mode in ("lexical", "hybrid"):
        found = await answer(api, "spindle", mode)
        [note] = found["notes"]
        assert note.startswith("words were not searched in 1 document(s)")
    assert (await answer(api, "spindle", "semantic"))["notes"] == []
    assert await places(api, "spindle") == [("new", 1)]
    assert len(await places(api, "spindle", "hybrid")) == 2
    assert (await TermBackfill(api.services.documents, api.services.blobs).round()).made == 1
    api.app.state.searcher._finder._lists._incomplete.clear()  # as ten seconds later
    found = await answer(api, "spindle")
    assert (len(found["hits"]), found["notes"]) == (2, [])


async def test_damaged_terms_are_a_note_and_no_error(api: MemoryApi) -> None:
    document = await add(api, "a", "the spindle")
    await api.services.blobs.put(terms_key(document.id, 1), b"odd", "")
    found = await answer(api, "spindle")
    assert (found["hits"], len(found["notes"])) == ([], 1)


async def test_a_collection_whose_terms_do_not_fit_is_searched_by_meaning_with_a_note() -> None:
    settings = Settings()
    settings.search = settings.search.model_copy(update={"search_term_cache_bytes": 0})
    api = memory_api(settings=settings)
    await add(api, "a", "the spindle")
    found = await answer(api, "spindle", "hybrid")
    assert [hit["page"] for hit in found["hits"]] == [1]
    assert "PAGEMILL_SEARCH_TERM_CACHE_BYTES" in found["notes"][0]


async def test_a_filter_leaves_no_other_pages(api: MemoryApi) -> None:
    for name in "abcdef":
        await add(api, name, "the spindle turns", FILLING)
    searcher = api.app.state.searcher
    view: Searchable = await api.services.documents.searchable(COLLECTION)
    listed = await searcher._finder.pages_of(view)
    allowed = type(listed)(listed.ranges[2:4], 1)
    found = await searcher._lexical.best(view, "spindle", 5, allowed)
    assert {page.document.id for page, _ in found.ranked} == {one.document_id for one in allowed.ranges}
