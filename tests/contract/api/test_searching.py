"""Searching over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ingestion.bootstrap import Services
from tests.contract.api.helpers import assert_problem, make_ready, uploaded


async def test_search_answers_with_pages_best_first(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    id_ = await uploaded(client, collection, "fox.pdf")
    await make_ready(services, id_, "a lazy dog", "the quick brown fox")
    answer = await client.post(f"/collections/{collection}/search", json={"query": "brown fox", "top_k": 2})
    assert answer.status_code == 200, answer.text
    best, other = answer.json()["hits"]
    assert set(best) == {"document_id", "filename", "page", "score", "image_url", "snippet"}
    assert (best["document_id"], best["filename"], best["page"], best["snippet"]) == (
        id_,
        "fox.pdf",
        2,
        "the quick brown fox",
    )
    assert best["score"] > other["score"]
    async with httpx.AsyncClient() as anybody:
        assert (await anybody.get(best["image_url"])).content == b"a picture"


async def test_an_unknown_collection_has_no_hits(client: httpx.AsyncClient, collection: str) -> None:
    answer = await client.post(f"/collections/{collection}/search", json={"query": "anything"})
    assert (answer.status_code, answer.json()) == (200, {"hits": []})


@pytest.mark.parametrize(
    ("body", "status"), [({"query": " "}, 400), ({"query": "x", "top_k": 0}, 400), ({}, 422), ({"query": 7}, 422)]
)
async def test_a_search_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, collection: str, body: dict[str, Any], status: int
) -> None:
    assert_problem(await client.post(f"/collections/{collection}/search", json=body), status, "bad_request")
