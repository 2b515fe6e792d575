"""The search route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.errors import Overloaded
from ingestion.model import Vectors
from ingestion.search import Searcher
from tests.contract.api.helpers import (
    DEADLINE_S,
    StreamedRequest,
    assert_problem,
    client_of,
    make_ready,
    running,
    uploaded,
)
from tests.support.embedders import WordEmbedder
from tests.support.scripts import LANGUAGES


async def test_hits_are_sorted_best_first(client: httpx.AsyncClient, services: Services, collection: str) -> None:
    id_ = await uploaded(client, collection, "fox.pdf")
    await make_ready(services, id_, "a lazy dog", "the quick brown fox")
    answer = await client.post(f"/collections/{collection}/search", json={"query": "brown fox", "top_k": 2})
    assert answer.status_code == 200, answer.text
    best, other = answer.json()["hits"]
    shown = {"document_id", "filename", "page", "score", "image_url", "snippet", "page_url", "page_image_url"}
    assert set(best) == shown | {"metadata", "tags"}
    assert best["metadata"] is best["tags"] is None
    assert (best["document_id"], best["filename"], best["page"], best["snippet"]) == (
        id_,
        "fox.pdf",
        2,
        "the quick brown fox",
    )
    assert best["score"] > other["score"]
    async with httpx.AsyncClient() as anybody:
        assert (await anybody.get(best["image_url"])).content == b"a picture"


async def test_words_of_ten_languages_are_found_until_their_documents_are_deleted(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    places: dict[str, tuple[str, int]] = {}
    for start in range(0, len(LANGUAGES), 2):
        pair = LANGUAGES[start : start + 2]
        id_ = await uploaded(client, collection, f"{start}.pdf", pages=2)
        await make_ready(services, id_, *(language.text for language in pair))
        places |= {language.name: (id_, number) for number, language in enumerate(pair, 1)}

    async def found(query: str) -> dict[str, Any]:
        body = {"query": query, "mode": "lexical"}
        return dict((await client.post(f"/collections/{collection}/search", json=body)).raise_for_status().json())

    for language in LANGUAGES:
        answer = await found(language.query)
        best = answer["hits"][0]
        assert (best["document_id"], best["page"]) == places[language.name], language.name
        assert (answer["mode"], answer["notes"]) == ("lexical", [])
    for id_ in {id_ for id_, _ in places.values()}:
        (await client.delete(f"/documents/{id_}")).raise_for_status()
    assert (await found(LANGUAGES[0].query))["hits"] == []


async def test_an_unknown_collection_has_no_hits(client: httpx.AsyncClient, collection: str) -> None:
    answer = await client.post(f"/collections/{collection}/search", json={"query": "anything"})
    assert (answer.status_code, answer.json()) == (200, {"hits": [], "mode": "hybrid", "notes": []})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (rb'{"query": "\ud83d"}', 400),
        (rb'{"query": "a \udfff"}', 400),
        (b'{"query": "\xed\xa0\xbd"}', 400),
        (rb'{"query": "x", "top_k": "\ud83d"}', 422),
        (rb'{"\ud83d": "x"}', 422),
        (rb'{"query": ["\ud83d"]}', 422),
        (b"\xff", 400),
    ],
)
async def test_a_query_that_is_not_unicode_is_refused_in_every_collection(
    client: httpx.AsyncClient, services: Services, collection: str, body: bytes, status: int
) -> None:
    await make_ready(services, await uploaded(client, collection), "a page", "another")
    for name in (collection, f"{collection}-unknown"):
        headers = {"Content-Type": "application/json"}
        assert_problem(
            await client.post(f"/collections/{name}/search", content=body, headers=headers), status, "bad_request"
        )


class Hanging(WordEmbedder):
    """Embeds no query until `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.waiting = 0

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        self.waiting += 1
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        return await super().embed_queries(queries)


class Asked(StreamedRequest):
    """A request whose body is complete."""

    async def receive(self) -> dict[str, Any]:
        return {**await super().receive(), "more_body": False}


class Full(WordEmbedder):
    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        raise Overloaded("embedder", 7)


def app_with(services: Services, embedder: WordEmbedder, *, limit_rows: int) -> FastAPI:
    searcher = Searcher(
        embedder=embedder,
        vectors=services.vectors,
        records=services.documents,
        blobs=services.blobs,
        settings=services.settings.search.model_copy(update={"search_limit_rows": limit_rows}),
    )
    return create_app(services, searcher)


async def test_above_the_limit_every_search_is_answered_429_at_once(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    await make_ready(services, await uploaded(client, collection), "a page", "another")
    embedder = Hanging()
    async with client_of(app_with(services, embedder, limit_rows=1)) as full:
        address, body = f"/collections/{collection}/search", {"query": "page"}
        first = asyncio.create_task(full.post(address, json=body))
        await until(lambda: embedder.waiting == 1)
        for answer in await asyncio.gather(*(full.post(address, json=body) for _ in range(50))):
            assert_problem(answer, 429, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        async with client_of(app_with(services, embedder, limit_rows=1), key="wrong") as stranger:
            assert_problem(await stranger.post(address, json=body), 401, "unauthorized")
        embedder.open.set()
        assert len((await first).json()["hits"]) == 2
        assert (await full.post(address, json=body)).status_code == 200


async def test_a_full_embedder_is_429_with_retry_after(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    await make_ready(services, await uploaded(client, collection), "a page", "another")
    async with client_of(app_with(services, Full(), limit_rows=1_000_000)) as busy:
        answer = await busy.post(f"/collections/{collection}/search", json={"query": "page"})
    assert_problem(answer, 429, "overloaded")
    assert answer.headers["retry-after"] == "7"


async def test_a_search_is_cancelled_when_its_client_disconnects(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    await make_ready(services, await uploaded(client, collection), "a page", "another")
    embedder = Hanging()
    app = app_with(services, embedder, limit_rows=1)
    path = f"/collections/{collection}/search"
    streamed = Asked("POST", path, {"content-type": "application/json"}, [b'{"query": "page"}'])
    async with running(app, streamed):
        await until(lambda: embedder.waiting == 1)
        streamed.left.set()
        await until(lambda: embedder.waiting == 0)
    embedder.open.set()
    async with client_of(app) as another:
        assert (await another.post(path, json={"query": "page"})).status_code == 200


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "status"), [({"query": " "}, 400), ({"query": "x", "top_k": 0}, 400), ({}, 422), ({"query": 7}, 422)]
)
async def test_an_invalid_search_is_refused(
    client: httpx.AsyncClient, collection: str, body: dict[str, Any], status: int
) -> None:
    assert_problem(await client.post(f"/collections/{collection}/search", json=body), status, "bad_request")
