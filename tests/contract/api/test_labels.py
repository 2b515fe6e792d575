"""Metadata, tags, keys and filters over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx

from ingestion.bootstrap import Services
from tests.contract.api.helpers import assert_problem, make_ready
from tests.support.uploads import make_upload


async def put(client: httpx.AsyncClient, address: str, *names: str, pages: int = 2, **fields: Any) -> Any:
    files = [("files", (name, make_upload(pages))) for name in names]
    answer = await client.post(address, data=fields, files=files)
    return answer.json()["documents"] if answer.status_code == 202 else answer


async def ids_in(client: httpx.AsyncClient, collection: str, text: str) -> set[str]:
    answer = await client.get("/documents", params={"collection": collection, "filter": text})
    assert answer.status_code == 200, answer.text
    return {document["document_id"] for document in answer.json()["documents"]}


async def hits(client: httpx.AsyncClient, collection: str, **options: Any) -> list[dict[str, Any]]:
    answer = await client.post(f"/collections/{collection}/search", json={"query": "fox", **options})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["hits"]
    return found


async def test_labels_of_an_upload_are_shown_found_changed_and_deleted_by(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    documents = f"/collections/{collection}/documents"
    labels = {"metadata": json.dumps({"team": "legal", "year": 2026, "n": None}), "tags": ["draft", "b c"]}
    [one, two] = [view["document_id"] for view in await put(client, documents, "a.pdf", "b.pptx.pdf", **labels)]
    [other] = await put(client, f"/upload/me/{collection}", "other.pdf", pages=3, metadata='{"team": "sales"}')
    for id_ in (one, two):
        await make_ready(services, id_, "a fox", "a dog")
    await make_ready(services, other["document_id"], "a fox", "a dog", "a cat")

    view = (await client.get(f"/documents/{one}")).json()
    assert (view["metadata"], view["tags"]) == ({"team": "legal", "year": 2026, "n": None}, ["draft", "b c"])
    assert (view["key"], view["replaced_by"]) == (None, None)
    legal = 'team = "legal" and year >= 2020 and tags has "draft"'
    assert await ids_in(client, collection, legal) == {one, two}
    assert await ids_in(client, collection, f"{legal} and not (filename like '*.pptx.pdf')") == {one}

    found = await hits(client, collection, filter=legal)
    assert {hit["document_id"] for hit in found} == {one, two}
    assert {hit["metadata"] for hit in found} == {None}
    [hit, *_] = await hits(client, collection, filter='team = "sales"', with_metadata=True)
    assert (hit["document_id"], hit["metadata"], hit["tags"]) == (other["document_id"], {"team": "sales"}, [])

    changed = await client.patch(f"/documents/{two}", json={"metadata": {"team": "sales", "n": None}, "tags": ["x"]})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["metadata"], changed.json()["tags"]) == ({"team": "sales", "year": 2026}, ["x"])
    assert {hit["document_id"] for hit in await hits(client, collection, filter=legal)} == {one}

    dry = await client.post(f"{documents}/delete", json={"filter": 'team = "sales"', "dry_run": True})
    assert (dry.json()["count"], dry.json()["deleted"], dry.json()["remaining"]) == (2, 0, 0)
    assert set(dry.json()["document_ids"]) == {two, other["document_id"]}
    done = await client.post(f"{documents}/delete", json={"filter": 'team = "sales"'})
    assert (done.json()["deleted"], done.json()["remaining"]) == (2, 0)
    assert await ids_in(client, collection, "filename like '*'") == {one}
    assert (await client.get(f"/documents/{two}")).status_code == 404


async def test_a_key_names_all_versions_and_equal_bytes_are_told(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    documents = f"/collections/{collection}/documents"
    [old] = await put(client, documents, "v1.pdf", pages=1, key="k")
    await make_ready(services, old["document_id"], "a fox")
    [new] = await put(client, documents, "v2.pdf", key="k")
    assert [hit["document_id"] for hit in await hits(client, collection)] == [old["document_id"]]
    await make_ready(services, new["document_id"], "a fox", "a dog")
    assert {hit["document_id"] for hit in await hits(client, collection)} == {new["document_id"]}
    view = (await client.get(f"/documents/{old['document_id']}")).json()
    assert (view["key"], view["replaced_by"]) == ("k", new["document_id"])

    [twin] = await put(client, documents, "twin.pdf")
    assert twin["duplicate_of"] == new["document_id"] != twin["document_id"]
    [skipped] = await put(client, documents, "third.pdf", duplicates="skip")
    assert skipped["document_id"] == skipped["duplicate_of"] == new["document_id"]
    done = await client.post(f"{documents}/delete", json={"filter": 'key = "k"'})
    assert done.json()["deleted"] == 2
    assert await ids_in(client, collection, "pages > 0") == {twin["document_id"]}


async def test_fields_that_cannot_be_used_are_one_clear_error(client: httpx.AsyncClient, collection: str) -> None:
    documents = f"/collections/{collection}/documents"
    for fields, advice in (
        ({"metadata": "{"}, "'metadata' is not JSON"),
        ({"metadata": '{"a": {}}'}, "'a' is an object"),
        ({"tags": "\n"}, "printable"),
        ({"duplicates": "perhaps"}, "'store' or 'skip'"),
    ):
        problem = assert_problem(await put(client, documents, "a.pdf", **fields), 400, "bad_request")
        assert advice in problem["detail"]
    two = assert_problem(await put(client, documents, "a.pdf", "b.pdf", key="k"), 400, "bad_request")
    assert "one file" in two["detail"]
    late = await client.post(documents, files=[("files", ("a.pdf", make_upload())), ("tags", (None, b"x"))])
    assert "before the files" in assert_problem(late, 400, "bad_request")["detail"]
    unknown = await client.patch("/documents/unknown", json={"metadata": {}})
    assert_problem(unknown, 404, "not_found")


async def test_a_filter_that_cannot_be_read_is_one_clear_error(client: httpx.AsyncClient, collection: str) -> None:
    wrong = "team = legal"
    for answer in (
        await client.post(f"/collections/{collection}/search", json={"query": "x", "filter": wrong}),
        await client.get("/documents", params={"collection": collection, "filter": wrong}),
        await client.post(f"/collections/{collection}/documents/delete", json={"filter": wrong}),
    ):
        assert "character 8" in assert_problem(answer, 400, "bad_filter")["detail"]
    alone = await client.get("/documents", params={"filter": "team = 'legal'"})
    assert "collection" in assert_problem(alone, 400, "bad_request")["detail"]
