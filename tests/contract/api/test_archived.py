"""Archived collections in the API."""

from __future__ import annotations

import httpx

from ingestion.bootstrap import Services
from ingestion.model import document_prefix
from tests.contract.api.helpers import assert_problem, make_ready, upload, uploaded
from tests.support.archives import archiver
from tests.support.uploads import make_upload


async def test_an_archived_collection_rejects_uploads_and_searches_until_restored_or_deleted(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    await make_ready(services, id_, "one", "two")
    query = {"query": "two", "top_k": 1}
    before = (await client.post(f"/collections/{collection}/search", json=query)).json()["hits"]
    await archiver(services).archive(collection)
    for answer in (
        await upload(client, collection, ("a.pdf", make_upload(2))),
        await client.post(f"/collections/{collection}/search", json=query),
        await client.get("/documents", params={"collection": collection}),
    ):
        assert_problem(answer, 409, "collection_archived")
        assert f"pagemill collections restore {collection}" in answer.json()["detail"]
    for path in (f"/documents/{id_}", f"/documents/{id_}/source", f"/collections/{collection}"):
        assert_problem(await client.get(path), 409, "collection_archived")
    assert_problem(await client.delete(f"/documents/{id_}"), 409, "collection_archived")
    await archiver(services).restore(collection)
    after = (await client.post(f"/collections/{collection}/search", json=query)).json()["hits"]
    assert [(hit["page"], hit["score"]) for hit in after] == [(hit["page"], hit["score"]) for hit in before]
    await archiver(services).archive(collection)
    assert (await client.delete(f"/collections/{collection}")).status_code == 204
    assert await services.blobs.list_keys(document_prefix(id_)) == []
    assert (await client.get("/documents", params={"collection": collection})).json()["documents"] == []
