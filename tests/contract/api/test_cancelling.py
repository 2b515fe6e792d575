"""Routes that cancel documents."""

from __future__ import annotations

import httpx
import pytest

from ingestion.bootstrap import Services
from ingestion.errors import LeaseLost
from ingestion.model import document_prefix
from ingestion.search import Searcher
from tests.contract.api.helpers import assert_problem, fail, make_ready, upload, uploaded
from tests.contract.api.test_budgets import silent_object_store
from tests.support.uploads import make_upload


async def test_a_cancelled_document_keeps_only_its_file_and_an_upload_begins_anew(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    claimed = await services.documents.claim(id_, "worker", 60_000)
    await services.blobs.put(f"{document_prefix(id_)}pages/000001.webp", b"a picture", "image/webp")
    for _ in range(2):  # twice is the same as once
        answer = await client.post(f"/documents/{id_}/cancel")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["document_id"], body["state"], body["pages_done"]) == (id_, "cancelled", 0)
    with pytest.raises(LeaseLost):
        await services.documents.checkpoint(id_, claimed.fence, 1)
    assert await services.blobs.list_keys(document_prefix(id_)) == [claimed.object_key]
    assert (await services.progress.read(id_))["status"] == "cancelled"

    assert await uploaded(client, collection) == id_
    await make_ready(services, id_, "one", "two")
    again = (await client.get(f"/documents/{id_}")).json()
    assert (again["state"], again["attempts"]) == ("ready", 1)
    assert_problem(await client.post(f"/documents/{id_}/cancel"), 409, "conflict")
    assert (await client.get(f"/documents/{id_}")).json() == again


async def test_a_document_that_is_not_in_work_cannot_be_cancelled(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    failed, deleting = await uploaded(client, collection, "a.pdf"), await uploaded(client, collection, "b.pdf")
    await fail(services, failed)
    await services.documents.begin_delete(deleting)
    for id_, state in ((failed, "failed"), (deleting, "deleting")):
        problem = assert_problem(await client.post(f"/documents/{id_}/cancel"), 409, "conflict")
        assert state in problem["detail"]
        assert (await client.get(f"/documents/{id_}")).json()["state"] == state
    assert_problem(await client.post("/documents/unknown/cancel"), 404, "not_found")
    begun = await services.documents.get(failed)
    assert begun is not None
    assert (await client.delete(f"/documents/{deleting}")).status_code == 204


async def test_a_collection_or_what_a_filter_selects_is_cancelled(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    files = [(f"{name}.pdf", make_upload(1)) for name in ("a", "b", "c")]
    answer = await upload(client, collection, *files)
    ids = {one["filename"]: one["document_id"] for one in answer.json()["documents"]}
    ready = await uploaded(client, collection, "ready.pdf", pages=1)
    await make_ready(services, ready, "one")
    await services.documents.claim(ids["b.pdf"], "worker", 60_000)
    url = f"/collections/{collection}/cancel"
    some = await client.post(url, params={"filter": 'filename = "a.pdf" or filename = "b.pdf"'})
    assert some.json() == {"cancelled": 2, "cancelling": 0}
    assert_problem(await client.post(url, params={"filter": "filename ="}), 400, "bad_filter")
    assert (await client.post(url)).json() == {"cancelled": 1, "cancelling": 0}
    assert (await client.post(url)).json() == {"cancelled": 0, "cancelling": 0}
    states = {one["filename"]: one["state"] for one in (await client.get("/documents")).json()["documents"]}
    assert states == {**dict.fromkeys(ids, "cancelled"), "ready.pdf": "ready"}


async def test_a_cancellation_that_is_cut_off_can_be_repeated(
    client: httpx.AsyncClient, services: Services, searcher: Searcher, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    await services.documents.claim(id_, "worker", 60_000)
    async with silent_object_store(services, searcher) as cut_off:
        assert_problem(await cut_off.post(f"/documents/{id_}/cancel"), 503, "dependency_unavailable")
        assert (await client.get(f"/documents/{id_}")).json()["state"] == "cancelling"
        assert (await cut_off.post(f"/collections/{collection}/cancel")).json() == {"cancelled": 0, "cancelling": 0}
    assert_problem(await upload(client, collection, ("a.pdf", make_upload(2))), 409, "conflict")
    assert (await client.post(f"/documents/{id_}/cancel")).json()["state"] == "cancelled"
