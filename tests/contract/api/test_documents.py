"""Routes that show, list and delete documents."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ingestion.bootstrap import Services
from ingestion.model import document_prefix
from tests.contract.api.helpers import assert_problem, fail, make_ready, uploaded


async def test_a_failed_document_has_its_error(client: httpx.AsyncClient, services: Services, collection: str) -> None:
    id_ = await uploaded(client, collection)
    await fail(services, id_)
    found = (await client.get(f"/documents/{id_}")).json()
    assert (found["state"], found["attempts"]) == ("failed", 1)
    assert found["error"] == {"code": "corrupt_pdf", "stage": "render", "message": "page 2 is broken"}


async def test_a_paged_listing_shows_each_document_once(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    ids = {await uploaded(client, collection, f"{number}.pdf", pages=1) for number in range(5)}
    elsewhere = await uploaded(client, "elsewhere")
    seen: list[str] = []
    sizes: list[int] = []
    after: str | None = ""
    while after is not None:
        params = {"collection": collection, "limit": 2} | ({"after": after} if after else {})
        body = (await client.get("/documents", params=params)).json()
        seen += [document["document_id"] for document in body["documents"]]
        sizes.append(len(body["documents"]))
        after = body["next"]
    assert (seen, sizes) == (sorted(ids), [2, 2, 1])
    everything = (await client.get("/documents")).json()
    assert {document["document_id"] for document in everything["documents"]} == ids | {elsewhere}
    assert everything["next"] is None


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"limit": "many"}])
async def test_a_parameter_out_of_range_is_refused(bare_client: httpx.AsyncClient, params: dict[str, Any]) -> None:
    assert "limit" in assert_problem(await bare_client.get("/documents", params=params), 422, "bad_request")["detail"]


async def test_a_deleted_document_leaves_nothing_in_any_store(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    gone = await uploaded(client, collection, "gone.pdf")
    kept = await uploaded(client, collection, "kept.pdf")
    await make_ready(services, gone, "one two three", "four")
    await make_ready(services, kept, "one two three", "four")
    document = await services.documents.get(gone)
    assert document is not None
    page_keys = [document.page_key(1), document.page_key(2)]
    assert await services.vectors.count_rows(collection, document.first_page_key, 2) == 4

    assert (await client.delete(f"/documents/{gone}")).status_code == 204

    assert await services.vectors.count_rows(collection, document.first_page_key, 2) == 0
    assert await services.blobs.list_keys(document_prefix(gone)) == []
    assert await services.documents.pages_by_key(page_keys) == {}
    assert await services.documents.get(gone) is None
    assert await services.progress.read(gone) == {}
    assert_problem(await client.get(f"/documents/{gone}"), 404, "not_found")
    assert_problem(await client.delete(f"/documents/{gone}"), 404, "not_found")
    assert (await client.get(f"/documents/{kept}")).json()["state"] == "ready"
    assert await services.vectors.count(collection) == 4
    assert len(await services.blobs.list_keys(document_prefix(kept))) == 7  # with sign codes and terms


async def test_a_delete_that_was_cut_off_is_finished_by_the_next(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    await make_ready(services, id_, "one", "two")
    await services.documents.begin_delete(id_)
    await services.blobs.delete_prefix(document_prefix(id_))
    assert (await client.get(f"/documents/{id_}")).json()["state"] == "deleting"

    assert (await client.delete(f"/documents/{id_}")).status_code == 204
    assert await services.documents.get(id_) is None
    assert await services.vectors.count(collection) == 0


async def test_deleting_a_collection_removes_its_documents_and_frees_its_name(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    for name in ("1.pdf", "2.pdf"):
        await make_ready(services, await uploaded(client, collection, name), "one", "two")
    other = await uploaded(client, "elsewhere")
    assert await services.documents.collection_fingerprint(collection) is not None

    assert (await client.delete(f"/collections/{collection}")).status_code == 204
    assert await services.documents.list(collection) == []
    assert await services.documents.collection_fingerprint(collection) is None
    assert await services.vectors.count(collection) == 0
    assert await services.documents.get(other) is not None
    assert (await client.delete(f"/collections/{collection}")).status_code == 204
