"""Dead letters over HTTP: what a tenant sees, replays and discards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx
import pytest

from ingestion.dead_letters import DeadLetter, of_document, of_record
from ingestion.errors import BadMessage, CorruptPdf
from ingestion.keys.tokens import new_key
from ingestion.messages import Record, encode_job
from ingestion.model import DocumentState, Failure, IngestJob, Role
from ingestion.replay import replayer
from tests.contract.api.helpers import assert_problem
from tests.memory.job_queue import MemoryJobQueue
from tests.support.memory_api import MemoryApi, memory_api


@dataclass
class Desk:
    api: MemoryApi
    operator: httpx.AsyncClient
    acme: httpx.AsyncClient
    reader: httpx.AsyncClient
    other: httpx.AsyncClient

    @property
    def queue(self) -> MemoryJobQueue:
        queue = self.api.services.queue
        assert isinstance(queue, MemoryJobQueue)
        return queue

    async def dead(self, collection: str, filename: str = "a.pdf") -> DeadLetter:
        """The published letter of a document that has failed."""
        document = await self.api.add(filename=filename, collection=collection)
        claimed = await self.api.services.documents.claim(document.id, "host-1", 60_000)
        error = CorruptPdf("page 2 is broken")
        failed = await self.api.services.documents.fail(
            document.id, claimed.fence, Failure(error.code, "render", error.message)
        )
        key, value, headers = encode_job(IngestJob.of(failed))
        letter = of_document(failed, Record(("jobs", 0), 7, key, value, tuple(headers)), "group", error)
        await self.queue.publish_dead_letter(letter)
        await self.api.services.documents.mark_dead_letter_sent(document.id, failed.fence)
        return letter

    async def bad_record(self) -> DeadLetter:
        letter = of_record(Record(("jobs", 0), 9, None, b"no job"), "group", BadMessage("message is not JSON"))
        await self.queue.publish_dead_letter(letter)
        return letter


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    api = memory_api()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(api.client())]
        for tenant, role in (("acme", Role.WRITE), ("acme", Role.READ), ("other", Role.ADMIN)):
            key, text = new_key(tenant, role)
            await api.services.documents.insert_key(key)
            clients.append(await stack.enter_async_context(api.client(text)))
        yield Desk(api, *clients)


async def listed(client: httpx.AsyncClient, **parameters: str | int) -> list[str]:
    answer = await client.get("/dead-letters", params=parameters)
    assert answer.status_code == 200, answer.text
    return [one["letter"] for one in answer.json()["dead_letters"]]


async def test_a_tenant_sees_its_own_letters_newest_first(desk: Desk) -> None:
    first, second = await desk.dead("acme.c", "a.pdf"), await desk.dead("acme.d", "b.pdf")
    own, unowned = await desk.dead("c"), await desk.bad_record()
    assert await listed(desk.acme) == await listed(desk.reader) == [second.id, first.id]
    assert await listed(desk.acme, collection="c") == [first.id]
    assert await listed(desk.other) == []
    assert await listed(desk.operator) == [unowned.id, own.id]
    found = (await desk.reader.get(f"/dead-letters/{first.id}")).json()
    assert (found["filename"], found["collection"], found["code"]) == ("a.pdf", "c", "corrupt_pdf")
    assert (found["state"], found["replayable"], found["document_state"]) == ("open", True, "failed")
    assert [one["event"] for one in found["history"]] == ["claimed", "failed"]
    assert found["stacktrace"] is None
    assert "host-1" not in str(found)
    assert "CorruptPdf" in (await desk.operator.get(f"/dead-letters/{own.id}")).json()["stacktrace"]


@pytest.mark.parametrize("action", ["replay", "discard"])
async def test_only_a_key_of_the_tenant_that_may_write_changes_a_letter(desk: Desk, action: str) -> None:
    letter, unowned = await desk.dead("acme.c"), await desk.bad_record()
    for id_ in (letter.id, unowned.id):
        assert_problem(await desk.other.get(f"/dead-letters/{id_}"), 404, "not_found")
        assert_problem(await desk.other.post(f"/dead-letters/{id_}/{action}"), 404, "not_found")
    assert_problem(await desk.acme.post(f"/dead-letters/{unowned.id}/{action}"), 404, "not_found")
    assert_problem(await desk.reader.post(f"/dead-letters/{letter.id}/{action}"), 403, "forbidden")
    assert await listed(desk.acme) == [letter.id]
    jobs = len(desk.queue.jobs)
    answer = await desk.operator.post(f"/dead-letters/{unowned.id}/{action}", json={"why": "written by hand"})
    assert answer.json()["mark"]["by"] == "key settings"
    assert len(desk.queue.jobs) - jobs == (action == "replay")


async def test_a_letter_is_replayed_once(desk: Desk) -> None:
    letter = await desk.dead("acme.c")
    jobs = len(desk.queue.jobs)
    for is_first in (True, False):
        answer = await desk.acme.post(f"/dead-letters/{letter.id}/replay", json={"why": "fixed"})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["state"], body["changed"], body["mark"]["why"]) == ("replayed", is_first, "fixed")
        assert body["mark"]["by"].startswith("key ")
    assert len(desk.queue.jobs) - jobs == 1
    document = await desk.api.services.documents.get(letter.document_id)
    assert document is not None
    assert document.state is DocumentState.QUEUED
    assert await listed(desk.acme) == []
    assert await listed(desk.acme, state="all") == await listed(desk.acme, state="replayed") == [letter.id]
    problem = assert_problem(await desk.acme.post(f"/dead-letters/{letter.id}/discard"), 409, "conflict")
    assert "is replayed" in problem["detail"]


async def test_a_discarded_letter_and_a_cut_one_cannot_be_replayed(desk: Desk) -> None:
    letter = await desk.dead("acme.c")
    for is_first in (True, False):
        assert (await desk.acme.post(f"/dead-letters/{letter.id}/discard")).json()["changed"] is is_first
    assert_problem(await desk.acme.post(f"/dead-letters/{letter.id}/replay"), 409, "conflict")
    cut = replace(await desk.bad_record(), id="cut", whole_bytes=10**6)
    await desk.queue.publish_dead_letter(cut)
    assert "part" in assert_problem(await desk.operator.post("/dead-letters/cut/replay"), 409, "conflict")["detail"]
    assert (await desk.operator.get("/dead-letters/cut")).json()["replayable"] is False


async def test_a_list_is_read_page_by_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page reads few letters of the topic, also where none of them is the caller's."""
    ids = [(await desk.dead("acme.c", f"{number}.pdf")).id for number in range(3)]
    for number in range(5):
        await desk.dead("other.c", f"{number}.pdf")
    monkeypatch.setattr(replayer, "_MOST_READ", 4)
    monkeypatch.setattr(replayer, "_READ_AT_ONCE", 2)
    pages, after = [], None
    while True:
        parameters: dict[str, str | int] = {"limit": 1} | ({"after": after} if after else {})
        body = (await desk.acme.get("/dead-letters", params=parameters)).json()
        pages.append([one["letter"] for one in body["dead_letters"]])
        if (after := body["next"]) is None:
            break
    assert [id_ for page in pages for id_ in page] == ids[::-1]
    assert pages[0] == []
    assert_problem(await desk.acme.get("/dead-letters", params={"after": "x"}), 400, "bad_request")


async def test_a_letter_that_was_published_twice_is_listed_once(desk: Desk) -> None:
    letter = await desk.dead("acme.c")
    await desk.queue.publish_dead_letter(letter)
    assert await listed(desk.acme) == [letter.id]
