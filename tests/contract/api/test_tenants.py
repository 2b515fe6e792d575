"""Every route of the API with every kind of key, and what a tenant sees of another one."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.keys.tokens import new_key
from ingestion.model import Role, document_id, qualified_name
from ingestion.search import Searcher
from tests.contract.api.helpers import assert_problem, client_of, make_ready, upload, uploaded
from tests.support.uploads import make_upload
from workers import cli
from workers.wiring import archiver_of

READING_POSTS = {"/collections/{collection}/search"}
"""Routes that read although their method is POST."""
BODIES: dict[str, dict[str, Any]] = {
    "/collections/{collection}/search": {"json": {"query": "pump", "top_k": 5}},
    "/keys": {"json": {"name": "of a walk"}},
    "/webhooks": {"json": {"url": "https://hooks.example/"}},
}
COLLECTION_EVENTS = "/collections/{collection}/events"
SECRET_WORD = "pumpernickel"
SECRET_FILE = "secret-plans.pdf"


@dataclass(frozen=True)
class Route:
    """A route below /api/v1, with `{…}` in its path."""

    method: str
    path: str

    @property
    def refuses_readers(self) -> bool:
        return self.path.startswith(("/keys", "/webhooks")) or (
            self.method != "GET" and self.path not in READING_POSTS
        )

    def address(self, **values: str) -> str:
        """`values` by the name of the parameter. Any other parameter is 1."""
        return re.sub(r"{(\w+)}", lambda found: values.get(found[1], "1"), self.path)


def routes_of(app: FastAPI) -> Iterator[Route]:
    for path, methods in app.openapi()["paths"].items():
        if path.startswith("/api/v1"):
            yield from (Route(method.upper(), path.removeprefix("/api/v1")) for method in methods)


@dataclass(frozen=True)
class Shared:
    """Two tenants with a collection of the same name. `document` is of the tenant acme."""

    acme: httpx.AsyncClient
    other: httpx.AsyncClient
    reader: httpx.AsyncClient
    app: FastAPI
    collection: str
    document: str

    async def send(self, client: httpx.AsyncClient, route: Route) -> httpx.Response:
        address = route.address(collection=self.collection, conversation=self.collection, document_id=self.document)
        if route.path == COLLECTION_EVENTS:  # without a document that is settled, this stream does not end
            address += f"?document_id={self.document if client in (self.acme, self.reader) else 'unknown'}"
        return await client.request(route.method, address, **BODIES.get(route.path, {}))


async def key_of(services: Services, tenant: str, role: Role, **fields: Any) -> str:
    key, text = new_key(tenant, role)
    await services.documents.insert_key(replace(key, **fields))
    return text


@pytest.fixture
async def shared(
    app: FastAPI, client: httpx.AsyncClient, services: Services, collection: str
) -> AsyncIterator[Shared]:
    async with AsyncExitStack() as stack:
        acme, other, reader = [
            await stack.enter_async_context(client_of(app, await key_of(services, tenant, role)))
            for tenant, role in (("acme", Role.ADMIN), ("other", Role.ADMIN), ("acme", Role.READ))
        ]
        document = await uploaded(acme, collection, SECRET_FILE, pages=1)
        await make_ready(services, document, SECRET_WORD)
        yield Shared(acme, other, reader, app, collection, document)
        for tenant in ("acme", "other"):
            await services.vectors.drop(qualified_name(tenant, collection))


async def test_each_route_needs_a_valid_key_with_its_role(shared: Shared, services: Services) -> None:
    invalid = {
        "none": None,
        "wrong": "wrong",
        "expired": await key_of(services, "acme", Role.ADMIN, expires_at=datetime.now(UTC) - timedelta(seconds=1)),
        "revoked": await key_of(services, "acme", Role.ADMIN),
    }
    assert invalid["revoked"] is not None
    await services.documents.revoke_key(invalid["revoked"].split("_")[1])
    routes = list(routes_of(shared.app))
    assert len(routes) >= 9
    for kind, key in invalid.items():
        async with client_of(shared.app, key) as stranger:
            for route in routes:
                answer = await shared.send(stranger, route)
                assert answer.status_code == 401, (route, kind, answer.text)
                assert_problem(answer, 401, "unauthorized")
    for route in routes:
        answer = await shared.send(shared.reader, route)
        assert (answer.status_code == 403) == route.refuses_readers, (route, answer.text)
        if route.refuses_readers:
            assert "'read'" in assert_problem(answer, 403, "forbidden")["detail"]
    assert (await shared.acme.get(f"/documents/{shared.document}")).json()["state"] == "ready"


async def test_no_route_shows_or_changes_the_documents_of_another_tenant(shared: Shared) -> None:
    for route in routes_of(shared.app):
        answer = await shared.send(shared.other, route)
        assert shared.document not in answer.text.replace(f"no document {shared.document}", ""), route
        assert SECRET_WORD not in answer.text, route
        assert SECRET_FILE not in answer.text, route
        if "{document_id}" in route.path:
            assert_problem(answer, 404, "not_found")
    found = (await shared.acme.get(f"/documents/{shared.document}")).json()
    assert (found["state"], found["collection"]) == ("ready", shared.collection)
    hits = (await shared.acme.post(f"/collections/{shared.collection}/search", json={"query": SECRET_WORD})).json()
    assert [hit["document_id"] for hit in hits["hits"]] == [shared.document]


async def test_no_route_shows_the_qualified_name_of_a_collection(shared: Shared) -> None:
    for route in routes_of(shared.app):
        if route.method == "GET" or route.path in READING_POSTS:
            answer = await shared.send(shared.acme, route)
            assert answer.status_code < 500, route
            assert qualified_name("acme", shared.collection) not in answer.text, route


async def test_the_same_file_in_collections_of_the_same_name_is_two_documents(
    shared: Shared, services: Services, client: httpx.AsyncClient
) -> None:
    ids = [await uploaded(one, shared.collection, "same.pdf") for one in (shared.acme, shared.other, client)]
    assert len(set(ids)) == 3
    for id_, tenant in zip(ids, ("acme", "other", "default"), strict=True):
        document = await services.documents.get(id_)
        assert document is not None
        assert document.collection == qualified_name(tenant, shared.collection)
        assert id_ == document_id(document.collection, "same.pdf", document.sha256)
    for one, own in ((shared.acme, {ids[0], shared.document}), (shared.other, {ids[1]}), (client, {ids[2]})):
        for params in ({}, {"collection": shared.collection}):
            listed = (await one.get("/documents", params=params)).json()["documents"]
            assert {document["document_id"] for document in listed} == own
            assert {document["collection"] for document in listed} == {shared.collection}
    assert (await shared.other.delete(f"/collections/{shared.collection}")).status_code == 204
    for id_, is_left in zip(ids, (True, False, True), strict=True):
        assert (await services.documents.get(id_) is not None) == is_left


async def test_a_cached_answer_is_of_its_tenant(shared: Shared, services: Services) -> None:
    """The other tenant has the same collection, at the same version, with another page."""
    other = await uploaded(shared.other, shared.collection, "b.pdf", pages=1)
    await make_ready(services, other, SECRET_WORD)
    for one, own in ((shared.acme, shared.document), (shared.other, other)) * 2:
        answer = await one.post(f"/collections/{shared.collection}/search", json={"query": SECRET_WORD})
        assert [hit["document_id"] for hit in answer.json()["hits"]] == [own]


async def test_no_caller_can_name_the_collection_of_another_tenant(shared: Shared, client: httpx.AsyncClient) -> None:
    foreign = qualified_name("acme", shared.collection)
    for one in (client, shared.other, shared.acme):
        assert_problem(await one.get(f"/collections/{foreign}"), 400, "bad_request")
        assert_problem(await one.get("/documents", params={"collection": foreign}), 400, "bad_request")
        assert_problem(await one.delete(f"/collections/{foreign}"), 400, "bad_request")
        assert_problem(await upload(one, foreign, ("a.pdf", make_upload(1))), 400, "bad_request")
        answer = await one.post(f"/collections/{foreign}/search", json={"query": SECRET_WORD})
        assert_problem(answer, 400, "bad_request")


async def test_the_key_of_the_settings_acts_for_the_tenant_that_it_names(
    shared: Shared, client: httpx.AsyncClient
) -> None:
    address = f"/documents/{shared.document}"
    assert_problem(await client.get(address), 404, "not_found")
    assert (await client.get(address, headers={"Pagemill-Tenant": "acme"})).status_code == 200
    assert_problem(await shared.other.get(address, headers={"Pagemill-Tenant": "acme"}), 403, "forbidden")


async def test_an_archived_document_of_another_tenant_is_not_found(shared: Shared, services: Services) -> None:
    await archiver_of(services).archive(qualified_name("acme", shared.collection))
    for address in (f"/documents/{shared.document}", f"/documents/{shared.document}/source"):
        assert_problem(await shared.acme.get(address), 409, "collection_archived")
        assert_problem(await shared.other.get(address), 404, "not_found")
    await archiver_of(services).restore(qualified_name("acme", shared.collection))
    hits = (await shared.acme.post(f"/collections/{shared.collection}/search", json={"query": SECRET_WORD})).json()
    assert [hit["document_id"] for hit in hits["hits"]] == [shared.document]


async def test_uploads_above_a_quota_are_refused_with_the_reason(
    services: Services, searcher: Searcher, client: httpx.AsyncClient, collection: str
) -> None:
    quotas = {"quota_pages_per_day": 3, "quota_overrides": {"default": {"documents_in_flight": 1}}}
    services.settings.api = services.settings.api.model_copy(update=quotas)
    app = create_app(services, searcher)
    async with client_of(app) as limited, client_of(app, await key_of(services, "acme", Role.WRITE)) as acme:
        await uploaded(limited, collection, "a.pdf", pages=1)
        answer = await upload(limited, collection, ("b.pdf", make_upload(1)))
        assert "1 documents in work" in assert_problem(answer, 429, "quota_exceeded")["detail"]
        assert int(answer.headers["retry-after"]) > 0
        answer = await upload(acme, collection, ("c.pdf", make_upload(4)))
        assert_problem(answer, 413, "storage_quota_exceeded")
        answer = await upload(acme, collection, ("d.pdf", make_upload(2)), ("e.pdf", make_upload(2)))
        assert answer.status_code == 202
        assert [(one["filename"], one["code"]) for one in answer.json()["refused"]] == [("e.pdf", "quota_exceeded")]


def command(folder: Path, *arguments: str) -> Result:
    """Of the settings in the environment, from a folder in which no stack runs."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(cli.app, arguments)
    finally:
        os.chdir(before)


async def test_commands_make_keys_and_see_the_collections_of_a_tenant(
    shared: Shared, services: Services, tmp_path: Path
) -> None:
    create = ("keys", "create", "--tenant", "acme", "--role", "read", "--expires", "2d", "--name", "chat", "--json")
    made = await asyncio.to_thread(command, tmp_path, *create)
    assert made.exit_code == 0, made.output
    key = json.loads(made.stdout)
    async with client_of(shared.app, key["api_key"]) as client:
        assert len((await client.get("/documents")).json()["documents"]) == 1
    listed = await asyncio.to_thread(command, tmp_path, "keys", "list", "--tenant", "acme", "--json")
    assert key["api_key"] not in listed.stdout
    by_id = {line["key"]: line for line in map(json.loads, listed.stdout.splitlines())}
    found = by_id[key["key"]]
    assert (found["role"], found["name"], found["state"]) == ("read", "chat", "active")
    assert found["last_used_at"] is not None
    table = await asyncio.to_thread(command, tmp_path, "keys", "list")
    assert key["key"] in table.stdout
    revoked = await asyncio.to_thread(command, tmp_path, "keys", "revoke", key["key"])
    assert revoked.exit_code == 0
    assert (await asyncio.to_thread(command, tmp_path, "keys", "revoke", "unknown")).exit_code == 1
    record = await services.documents.api_key(key["key"])
    assert record is not None
    assert record.revoked_at is not None

    collections = await asyncio.to_thread(command, tmp_path, "collections", "list", "--tenant", "acme", "--json")
    [collection] = [json.loads(line) for line in collections.stdout.splitlines()]
    assert (collection["tenant"], collection["collection"]) == ("acme", qualified_name("acme", shared.collection))
    drop = ("collections", "drop", shared.collection, "--yes", "--tenant")
    assert (await asyncio.to_thread(command, tmp_path, *drop, "other")).exit_code == 1
    assert (await asyncio.to_thread(command, tmp_path, *drop, "acme")).exit_code == 0
    assert await services.documents.get(shared.document) is None
