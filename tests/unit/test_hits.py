"""The one shape of a hit, in the query cache and over HTTP."""

from __future__ import annotations

import json

import pytest

from ingestion.hits import Hit, SearchResult, decode_hits, encode_hits

HIT = Hit(
    document_id="d",
    filename="a.pdf",
    page=4,
    score=1.5,
    image_url="http://s3/i.webp",
    snippet="text",
    page_key=7,
    image_key="documents/d/pages/000004.webp",
)


def test_the_query_cache_keeps_every_field() -> None:
    [kept] = decode_hits(encode_hits([HIT]))
    assert dict(kept) == dict(HIT)


def test_json_of_the_api_has_neither_page_key_nor_image_key_and_always_the_rest() -> None:
    [fields] = json.loads(SearchResult(hits=[HIT]).model_dump_json())["hits"]
    names = ["document_id", "filename", "page", "score", "image_url", "snippet", "page_url", "page_image_url"]
    assert list(fields) == [*names, "metadata", "tags"]
    schema = Hit.model_json_schema(mode="serialization")
    assert list(schema["properties"]) == schema["required"] == list(fields)


def test_the_client_reads_what_the_api_sends() -> None:
    sent = SearchResult(hits=[HIT]).model_dump_json()
    assert SearchResult.model_validate_json(sent).model_dump_json() == sent


def test_an_answer_that_release_0_1_put_into_the_cache_can_be_read() -> None:
    old = {"document_id": "d", "page_key": 7, "page": 4, "filename": "a.pdf", "score": 1.5, "image_key": "k"}
    [hit] = decode_hits(json.dumps([{**old, "snippet": "text"}]).encode())
    assert (hit.page_key, hit.image_key, hit.image_url) == (7, "k", "")


@pytest.mark.parametrize("data", [b"no JSON", b"[1]", b'[{"page": 1}]', b"null"])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode_hits(data)
