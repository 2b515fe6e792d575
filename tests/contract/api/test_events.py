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


async def test_events_of_an_unknown_document_are_a_problem(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/documents/unknown/events"), 404, "not_found")
