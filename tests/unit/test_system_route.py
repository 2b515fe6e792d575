"""`GET /system`: what the installation does now."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast

from ingestion.errors import DependencyUnavailable
from ingestion.keys.tokens import new_key
from ingestion.model import Role
from ingestion.system import SystemReader
from tests.memory import MemoryDocumentStore
from tests.memory.consumer_group import MemoryConsumerGroup
from tests.memory.progress import MemoryProgress
from tests.support.documents import S, in_state
from tests.support.memory_api import memory_api


async def test_an_operator_sees_all_and_a_tenant_its_own() -> None:
    api = memory_api()
    documents = api.services.documents
    group = cast(MemoryConsumerGroup, api.services.consumer_group)
    group.members, group.lag = ["host-1", "host-2"], {"jobs": 7}
    for id_, collection, worker in (("d1", "c", "host-1"), ("d2", "acme.c", "host-3")):
        document = await in_state(documents, S.QUEUED, id_, collection=collection)
        await documents.claim(document.id, worker, 60_000)
    await in_state(documents, S.READY, "d3", collection="acme.c")
    await in_state(documents, S.FAILED, "d4")
    await api.services.progress.report_outages({"milvus": datetime(2026, 5, 1, tzinfo=UTC)})
    key, text = new_key("acme", Role.READ)
    await documents.insert_key(key)
    async with api.client() as operator, api.client(text) as acme:
        whole = (await operator.get("/system")).json()
        own = (await acme.get("/system", params={"minutes": 5})).json()
    assert whole["scope"] == "installation"
    assert whole["workers"] == [
        {"worker": "host-1", "in_group": True, "document_ids": ["d1"]},
        {"worker": "host-2", "in_group": True, "document_ids": []},
        {"worker": "host-3", "in_group": False, "document_ids": ["d2"]},
    ]
    assert whole["lag"] == [{"topic": "jobs", "records": 7}]
    assert [one["dependency"] for one in whole["outages"]] == ["milvus"]
    assert {(one["document_id"], one["tenant"]) for one in whole["in_work"]} == {("d1", "default"), ("d2", "acme")}
    [minute] = whole["finished"]
    assert (minute["ready"], minute["failed"], minute["pages"]) == (1, 1, 60)
    assert (own["scope"], own["workers"], own["lag"]) == ("tenant", None, None)
    assert [(one["document_id"], one["collection"]) for one in own["in_work"]] == [("d2", "c")]
    assert [(one["ready"], one["failed"]) for one in own["finished"]] == [(1, 0)]
    assert "host" not in str(own)


async def test_many_callers_cost_one_request_and_a_silent_broker_hides_nothing_else() -> None:
    documents, group = MemoryDocumentStore(), MemoryConsumerGroup()
    now_s = [0.0]
    reader = SystemReader(documents, group, MemoryProgress(), clock=lambda: now_s[0])
    await asyncio.gather(*(reader.state(None, 15) for _ in range(5)))
    assert group.snapshots == 1

    async def down() -> None:
        raise DependencyUnavailable("kafka", "down")

    now_s[0] = 60.0
    group.snapshot = down  # type: ignore[assignment,method-assign]
    assert (await reader.state(None, 15)).group is None
