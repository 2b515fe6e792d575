"""What every implementation of the port Cancellations keeps."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.errors import Conflict, LeaseLost, NotFound
from ingestion.filters import parse_filter
from ingestion.model import Document, DocumentState, first_fence
from tests.support.documents import LEASE_MS, document, in_state

S = DocumentState


class CancellationsContract:
    @pytest.mark.parametrize("state", [S.RECEIVED, S.QUEUED, S.PROCESSING])
    async def test_unfinished_work_is_cancelled_and_its_worker_loses_the_document(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        begun = await store.begin_cancel("d1")
        assert (begun.state, begun.fence, begun.owner) == (S.CANCELLING, before.fence + 1, "")
        assert (begun.outbox, begun.lease_until_ms) == ("sent", 0)
        assert begun == await store.get("d1")
        for change in (store.checkpoint("d1", before.fence, 3), store.finish(before), store.extend("d1", 0, LEASE_MS)):
            with pytest.raises(LeaseLost):
                await change
        with pytest.raises(Conflict):
            await store.claim("d1", "w", LEASE_MS)
        ended = await store.end_cancel(begun)
        assert ended == await store.get("d1")
        assert ended is not None
        assert (ended.state, ended.pages_done, ended.text_pages, ended.error) == (S.CANCELLED, 0, None, None)

    async def test_cancelling_twice_is_the_same_as_once(self, store: DocumentStore) -> None:
        await in_state(store, S.QUEUED)
        first = await store.begin_cancel("d1")
        assert await store.begin_cancel("d1") == first
        ended = await store.end_cancel(first)
        assert await store.end_cancel(first) is None
        assert await store.begin_cancel("d1") == ended

    @pytest.mark.parametrize("state", [S.READY, S.FAILED, S.DELETING])
    async def test_a_document_that_is_not_in_work_is_not_cancelled(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        with pytest.raises(Conflict, match=state.value):
            await store.begin_cancel("d1")
        assert await store.get("d1") == before
        assert await store.begin_cancels("c") == 0
        with pytest.raises(NotFound):
            await store.begin_cancel("unknown")

    async def test_a_delete_ends_a_cancellation(self, store: DocumentStore) -> None:
        begun = await in_state(store, S.CANCELLING)
        await store.begin_delete("d1")
        assert await store.end_cancel(begun) is None
        found = await store.get("d1")
        assert found is not None
        assert found.state is S.DELETING

    async def test_a_finish_and_a_cancellation_at_once_have_one_winner(self, store: DocumentStore) -> None:
        claimed = await in_state(store, S.PROCESSING)
        results = await asyncio.gather(store.finish(claimed), store.begin_cancel("d1"), return_exceptions=True)
        [winner] = [result for result in results if isinstance(result, Document)]
        assert winner.state in (S.READY, S.CANCELLING)
        assert any(isinstance(result, LeaseLost | Conflict) for result in results)

    async def test_all_unfinished_documents_of_a_collection_are_cancelled(self, store: DocumentStore) -> None:
        for number, name in enumerate(("a.pdf", "b.pdf", "a.pdf")):
            await store.insert(replace(document(f"d{number}"), filename=name))
        await store.insert(document("d8", collection="other"))
        await store.claim("d2", "w", LEASE_MS)
        assert await store.begin_cancels("c", parse_filter('filename = "a.pdf"')) == 2
        assert [one.id for one in await store.being_cancelled("c", 10)] == ["d0", "d2"]
        assert [one.id for one in await store.being_cancelled("c", 10, after="d0")] == ["d2"]
        assert await store.begin_cancels("c") == 1
        assert [one.id for one in await store.being_cancelled("c", 2)] == ["d0", "d1"]

    async def test_a_new_upload_takes_the_place_of_a_cancelled_document(self, store: DocumentStore) -> None:
        cancelled = await in_state(store, S.CANCELLED)
        key = 100
        again = replace(document(), first_page_key=key, fence=first_fence(key))
        assert await store.restart(cancelled, again)
        found = await store.get("d1")
        assert found is not None
        assert (found.state, found.outbox, found.attempts) == (S.RECEIVED, "pending", 0)
        assert (found.first_page_key, found.fence) == (key, first_fence(key))
        assert await store.history("d1") == []
        assert not await store.restart(cancelled, again)
        assert not await store.restart(again, again)
        assert (await store.claim("d1", "w", LEASE_MS)).attempts == 1
