"""What every implementation of the port Flows keeps, and the place of a document in the queue."""

from __future__ import annotations

from dataclasses import replace

from ingestion.bootstrap import DocumentStore
from ingestion.model import Document, Flow, Priority
from tests.support.documents import FAILURE, LEASE_MS, document

BULK, CHAT = Flow(Priority.BULK, "default"), Flow(Priority.INTERACTIVE, "acme")


async def queued(store: DocumentStore, id_: str, flow: Flow, page_key: int) -> Document:
    collection = "c" if flow.tenant == "default" else f"{flow.tenant}.c"
    found = replace(document(id_, collection), priority=flow.priority, first_page_key=page_key)
    await store.insert(found)
    await store.mark_queued(found)
    return found


async def names(store: DocumentStore, flow: Flow, limit: int = 10, **without: tuple[str, ...]) -> list[str]:
    return [one.id for one in await store.next_waiting(flow, limit, **without)]


class FlowsContract:
    async def test_the_waiting_documents_of_a_flow_come_in_the_order_of_their_uploads(
        self, store: DocumentStore
    ) -> None:
        for number in (3, 1, 2):
            await queued(store, f"d{number}", BULK, number)
        await queued(store, "chat", CHAT, 9)
        await store.insert(document("old"))
        await store.mark_queued(document("old"))
        assert set(await store.flows()) == {BULK, CHAT}
        assert await names(store, BULK) == ["d1", "d2", "d3"]
        assert await names(store, BULK, 1) == ["d1"]
        assert await names(store, CHAT) == ["chat"]
        assert await names(store, CHAT, without_collections=("acme.c",)) == []

    async def test_a_document_that_may_not_be_claimed_does_not_wait(self, store: DocumentStore) -> None:
        for number in (1, 2, 3):
            await queued(store, f"d{number}", BULK, number)
        await store.claim("d1", "w", LEASE_MS)
        claimed = await store.claim("d2", "w", LEASE_MS)
        await store.postpone("d2", claimed.fence, FAILURE, LEASE_MS)
        assert await names(store, BULK) == ["d3"]

    async def test_a_flow_is_retired_unless_a_job_came_since(self, store: DocumentStore) -> None:
        await queued(store, "d1", BULK, 1)
        mark = (await store.flows())[BULK]
        await queued(store, "d2", BULK, 2)
        await store.retire_flow(BULK, mark)
        assert set(await store.flows()) == {BULK}
        await store.retire_flow(BULK, (await store.flows())[BULK])
        assert await store.flows() == {}

    async def test_a_record_stands_for_the_document_that_was_claimed_under_it(self, store: DocumentStore) -> None:
        for number in (1, 2):
            await queued(store, f"d{number}", BULK, number)
        begun, own = await store.delivered("jobs:0:7:1", "d1")
        assert (begun, own.id if own else "") == (None, "d1")
        await store.claim("d2", "w", LEASE_MS, delivery="jobs:0:7:1")
        begun, own = await store.delivered("jobs:0:7:1", "d1")
        assert (begun.id if begun else "", own.id if own else "") == ("d2", "d1")
        assert await store.delivered("jobs:0:8:1", "unknown") == (None, None)

    async def test_the_place_in_the_queue_is_that_of_the_turns(self, store: DocumentStore) -> None:
        bulk = [await queued(store, f"d{number}", BULK, number) for number in range(1, 9)]
        other = [await queued(store, f"o{number}", Flow(Priority.BULK, "acme"), 20 + number) for number in (1, 2)]
        chat = await queued(store, "chat", CHAT, 30)
        assert await store.waiting_before(chat, 100) == 0
        assert await store.waiting_before(other[0], 100) == 1, "the chat"
        assert await store.waiting_before(other[1], 100) == 3, "one of each flow"
        assert await store.waiting_before(bulk[7], 100) == 7 + 2 + 1
        assert await store.waiting_before(bulk[7], 5) == 5
