"""The time that the stores may take for one request."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import SecretStr

from ingestion.adapters.minio import MinioBlobStore
from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.concurrency.deadline import remaining_s
from ingestion.model import DocumentState
from ingestion.removal import Remover
from ingestion.search import Searcher
from ingestion.settings import S3Settings
from tests.contract.api.helpers import StreamedRequest, assert_problem, client_of, fail, make_ready, running, uploaded
from tests.support.silent import fake_server, says_nothing
from workers.recovery import Janitor
from workers.wiring import canceller_of

SHORT_S = 0.3
PORTS = ("documents", "vectors", "blobs", "queue", "progress")


@dataclass
class WatchedStore:
    """A store that records, for each call, the caller's remaining budget."""

    inner: Any
    calls: list[tuple[str, float | None]]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def watched(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, remaining_s()))
            return await found(*arguments, **options)

        return watched


@dataclass
class WatchedServices:
    services: Services
    calls: list[tuple[str, float | None]] = field(default_factory=list)

    def create_app(self, searcher: Searcher) -> Any:
        stores = {name: WatchedStore(getattr(self.services, name), self.calls) for name in PORTS}
        return create_app(replace(self.services, **stores), searcher)  # type: ignore[arg-type]

    def unlimited(self) -> list[str]:
        """The calls without a budget, since the last use of this method. There was at least one call."""
        assert self.calls
        found = [name for name, left_s in self.calls if left_s is None]
        self.calls.clear()
        return found


async def test_every_call_to_a_store_shares_the_budget_of_its_request(
    client: httpx.AsyncClient, services: Services, searcher: Searcher, collection: str
) -> None:
    watched = WatchedServices(services)
    app = watched.create_app(searcher)
    async with client_of(app) as api:
        ids = [await uploaded(api, collection, f"{number}.pdf") for number in range(3)]
        assert watched.unlimited() == []
        await make_ready(services, ids[0], "one", "two")
        await fail(services, ids[1])
        for path in (f"/documents/{ids[0]}", "/documents", f"/documents?collection={collection}", "/documents/none"):
            await api.get(path)
            assert watched.unlimited() == [], path
        streamed = StreamedRequest("GET", f"/documents/{ids[2]}/events", {}, [])
        async with running(app, streamed) as task:
            await streamed.until('"queued"')
            assert (await api.delete(f"/documents/{ids[2]}")).status_code == 204
            await task
        assert watched.unlimited() == [], "events and delete"
        assert (await api.delete(f"/collections/{collection}")).status_code == 204
        assert watched.unlimited() == [], "delete of a collection"
        assert (await api.delete(f"/collections/{collection}")).status_code == 204
        assert watched.unlimited() == [], "delete of an unknown collection"


@asynccontextmanager
async def silent_object_store(services: Services, searcher: Searcher) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API whose object store accepts connections and never answers."""
    settings = copy(services.settings)
    settings.api = services.settings.api.model_copy(update={"store_budget_s": SHORT_S})
    with fake_server(says_nothing) as server:
        s3 = S3Settings(s3_endpoint=server.address, s3_access_key="key", s3_secret_key=SecretStr("secret"))
        async with (
            MinioBlobStore(s3) as blobs,
            client_of(create_app(replace(services, settings=settings, blobs=blobs), searcher)) as client,
        ):
            yield client


async def test_a_delete_that_is_cut_off_is_finished_by_the_next(
    client: httpx.AsyncClient, services: Services, searcher: Searcher, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    async with silent_object_store(services, searcher) as cut_off:
        answer = await cut_off.delete(f"/documents/{id_}")
    assert_problem(answer, 503, "dependency_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert (await client.get(f"/documents/{id_}")).json()["state"] == "deleting"
    assert (await client.delete(f"/documents/{id_}")).status_code == 204
    assert await services.documents.get(id_) is None


async def test_a_delete_that_is_cut_off_is_finished_by_the_janitor(
    client: httpx.AsyncClient, services: Services, searcher: Searcher, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    async with silent_object_store(services, searcher) as cut_off:
        assert_problem(await cut_off.delete(f"/documents/{id_}"), 503, "dependency_unavailable")
    document = await services.documents.get(id_)
    assert document is not None and document.state is DocumentState.DELETING
    remover = Remover(services.documents, services.vectors, services.blobs, services.queue, services.progress)
    janitor = Janitor(
        records=services.documents,
        queue=services.queue,
        remover=remover,
        canceller=canceller_of(services),
        group="g",
        grace_s=0,
        lost_after_s=3600,
    )
    await janitor.round(collection)
    assert await services.documents.get(id_) is None


async def test_a_delete_of_a_collection_that_is_cut_off_is_finished_by_the_next(
    client: httpx.AsyncClient, services: Services, searcher: Searcher, collection: str
) -> None:
    id_ = await uploaded(client, collection)
    await make_ready(services, id_, "one", "two")
    async with silent_object_store(services, searcher) as cut_off:
        assert_problem(await cut_off.delete(f"/collections/{collection}"), 503, "dependency_unavailable")
    assert (await client.delete(f"/collections/{collection}")).status_code == 204
    assert await services.documents.list(collection) == []
