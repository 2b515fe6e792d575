"""The progress of a document as server-sent events."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import httpx
from fastapi import FastAPI

from ingestion.bootstrap import Services
from tests.contract.api.helpers import StreamedRequest, assert_problem, fail, running, uploaded


def seen(streamed: StreamedRequest) -> list[dict[str, Any]]:
    return [json.loads(line[5:]) for line in streamed.text.splitlines() if line.startswith("data:")]


async def test_events_follow_a_document_until_it_is_settled(
    app: FastAPI, client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    id_ = await uploaded(client, collection, pages=2)
    streamed = StreamedRequest("GET", f"/documents/{id_}/events", {}, [])
    async with running(app, streamed) as task:
        await streamed.until('"queued"')
        claimed = await services.documents.claim(id_, "worker", 60_000)
        await services.progress.report(id_, status="processing", message="half way", processed=1, total=2)
        await streamed.until('"half way"')
        await services.documents.checkpoint(id_, claimed.fence, 2)
        await services.documents.finish(claimed)
        await task
    events = seen(streamed)
    assert ("processing", 1) in [(one["state"], one["pages_done"]) for one in events]
    assert (events[-1]["state"], events[-1]["pages_done"]) == ("ready", 2)
    assert all(one != following for one, following in pairwise(events))


async def test_events_of_a_deleted_document_end(app: FastAPI, client: httpx.AsyncClient, collection: str) -> None:
    id_ = await uploaded(client, collection)
    streamed = StreamedRequest("GET", f"/documents/{id_}/events", {}, [])
    async with running(app, streamed) as task:
        await streamed.until('"queued"')
        assert (await client.delete(f"/documents/{id_}")).status_code == 204
        await task
    assert seen(streamed)[-1]["state"] == "deleted"


async def test_a_settled_document_has_one_event(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    await fail(services, id_)
    answer = await client.get(f"/documents/{id_}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    [line] = [line for line in answer.text.splitlines() if line.startswith("data:")]
    assert json.loads(line[5:])["error"]["message"] == "page 2 is broken"


async def test_an_event_that_was_received_is_not_repeated(
    client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    await fail(services, id_)
    first = await client.get(f"/documents/{id_}/events")
    [last_id] = [line[3:].strip() for line in first.text.splitlines() if line.startswith("id:")]
    again = await client.get(f"/documents/{id_}/events", headers={"Last-Event-ID": last_id})
    assert "data:" in first.text
    assert "data:" not in again.text


async def test_a_stream_of_a_collection_shows_every_change_and_goes_on_where_it_broke_off(
    app: FastAPI, client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    settled, waiting = [await uploaded(client, collection, pages=pages) for pages in (1, 2)]
    await fail(services, settled)
    streamed = StreamedRequest("GET", f"/collections/{collection}/events", {}, [])
    async with running(app, streamed):
        await streamed.until(waiting)
        later = await uploaded(client, collection, pages=3)
        await streamed.until(later)
        claimed = await services.documents.claim(waiting, "worker", 60_000)
        await streamed.until('"processing"')
        await client.delete(f"/documents/{later}")
        await streamed.until('"deleted"')
    last_id = [line[3:].strip() for line in streamed.text.splitlines() if line.startswith("id:")][-1]

    await services.documents.finish(claimed)
    resumed = StreamedRequest("GET", f"/collections/{collection}/events", {"Last-Event-ID": last_id}, [])
    async with running(app, resumed):
        await resumed.until('"ready"')
    assert {one["document_id"] for one in seen(resumed)} <= {waiting, settled}


async def test_a_stream_of_chosen_documents_ends_when_all_are_settled(
    app: FastAPI, client: httpx.AsyncClient, services: Services, collection: str
) -> None:
    ids = [await uploaded(client, collection, pages=pages) for pages in (1, 2)]
    query = "&".join(f"document_id={id_}" for id_ in [*ids, "unknown"])
    streamed = StreamedRequest("GET", f"/collections/{collection}/events?{query}", {}, [])
    async with running(app, streamed) as task:
        await streamed.until(ids[1])
        for id_ in ids:
            await fail(services, id_)
        await task
    last = {one["document_id"]: one["state"] for one in seen(streamed)}
    assert last == {ids[0]: "failed", ids[1]: "failed", "unknown": "deleted"}


async def test_too_many_chosen_documents_are_refused(client: httpx.AsyncClient, collection: str) -> None:
    query = "&".join(f"document_id={number}" for number in range(201))
    assert_problem(await client.get(f"/collections/{collection}/events?{query}"), 400, "bad_request")


async def test_totals_of_all_collections_come_in_one_answer(client: httpx.AsyncClient, collection: str) -> None:
    await uploaded(client, collection)
    answer = (await client.get("/collections")).json()
    [own] = [one for one in answer["collections"] if one["collection"] == collection]
    assert sum(own["documents"].values()) == 1
    assert own["size_bytes"] > 0


async def test_events_of_an_unknown_document_are_a_problem(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/documents/unknown/events"), 404, "not_found")
