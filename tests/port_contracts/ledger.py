"""Ledger, Outbox and Deletions: claims, leases, fences and states."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.errors import Conflict, LeaseHeld, LeaseLost, NotFound
from ingestion.model import Document, DocumentState
from tests.support.documents import FAILURE, LEASE_MS, S, document, expired, in_state, page


class LedgerContract:
    """Needs a fixture `store`."""

    @pytest.mark.parametrize("state", [S.RECEIVED, S.QUEUED])
    async def test_a_claim_takes_the_document(self, store: DocumentStore, state: DocumentState) -> None:
        before = await in_state(store, state)
        claimed = await store.claim("d1", "$worker", LEASE_MS)
        assert (claimed.state, claimed.owner) == (S.PROCESSING, "$worker")
        assert (claimed.attempts, claimed.fence) == (before.attempts + 1, before.fence + 1)
        assert claimed == await store.get("d1")

    async def test_one_of_fifty_concurrent_claims_wins(self, store: DocumentStore) -> None:
        await in_state(store, S.QUEUED)
        claims = (store.claim("d1", f"w{number}", LEASE_MS) for number in range(50))
        results = await asyncio.gather(*claims, return_exceptions=True)
        [winner] = [result for result in results if isinstance(result, Document)]
        assert sum(isinstance(result, LeaseHeld) for result in results) == 49
        assert (winner.attempts, winner.fence) == (1, 1)
        assert await store.get("d1") == winner

    async def test_a_running_lease_is_respected_and_says_how_long(self, store: DocumentStore) -> None:
        await store.insert(document())
        await store.claim("d1", "w", LEASE_MS)
        for owner in ("other", "w"):
            with pytest.raises(LeaseHeld) as caught:
                await store.claim("d1", owner, LEASE_MS)
            assert LEASE_MS / 1000 - 30 < caught.value.retry_in_s <= LEASE_MS / 1000

    async def test_a_claim_asked_for_twice_is_granted_once(self, store: DocumentStore) -> None:
        await store.insert(document())
        claimed = await store.claim("d1", "w", LEASE_MS, token="$t")
        again = await store.claim("d1", "w", LEASE_MS, token="$t")
        assert (again.attempts, again.fence) == (claimed.attempts, claimed.fence) == (1, 1)
        assert [event.event for event in await store.history("d1")] == ["claimed"]
        for token in ("other", ""):
            with pytest.raises(LeaseHeld):
                await store.claim("d1", "w", LEASE_MS, token=token)

    @pytest.mark.parametrize("waits", [False, True], ids=["released", "postponed"])
    async def test_a_claim_that_was_given_up_is_a_new_one(self, store: DocumentStore, waits: bool) -> None:
        await store.insert(document())
        claimed = await store.claim("d1", "w", LEASE_MS, token="t")
        if waits:
            await store.postpone("d1", claimed.fence, FAILURE, LEASE_MS)
            with pytest.raises(LeaseHeld):
                await store.claim("d1", "w", LEASE_MS, token="t")
        else:
            await store.release("d1", claimed.fence)
            again = await store.claim("d1", "w", LEASE_MS, token="t")
            assert (again.attempts, again.fence) == (1, 2)

    async def test_an_expired_lease_can_be_claimed_and_the_old_fence_is_dead(self, store: DocumentStore) -> None:
        dead = await expired(store)
        claimed = await store.claim("d1", "w", LEASE_MS)
        assert (claimed.attempts, claimed.fence) == (2, dead.fence + 1)
        with pytest.raises(LeaseLost):
            await store.finish(dead)
        assert await store.get("d1") == claimed

    async def test_extending_keeps_others_out(self, store: DocumentStore) -> None:
        claimed = await expired(store)
        await store.extend("d1", claimed.fence, LEASE_MS)
        with pytest.raises(LeaseHeld):
            await store.claim("d1", "w", LEASE_MS)

    @pytest.mark.parametrize("state", [S.READY, S.FAILED, S.CANCELLED, S.DELETING])
    async def test_a_document_in_a_state_without_work_cannot_be_claimed(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        with pytest.raises(Conflict, match=state.value):
            await store.claim("d1", "w", LEASE_MS)
        assert await store.get("d1") == before

    async def test_an_unknown_document_cannot_be_claimed(self, store: DocumentStore) -> None:
        with pytest.raises(NotFound):
            await store.claim("unknown", "w", LEASE_MS)

    async def test_a_stale_fence_is_refused_everywhere(self, store: DocumentStore) -> None:
        stale = (await expired(store)).fence
        claimed = await store.claim("d1", "w", LEASE_MS)
        for call in (
            store.extend("d1", stale, LEASE_MS),
            store.plan("d1", stale, dpi=200, stage="render"),
            store.checkpoint("d1", stale, 9),
            store.finish(replace(document("d1"), fence=stale)),
            store.fail("d1", stale, FAILURE),
            store.release("d1", stale),
        ):
            with pytest.raises(LeaseLost):
                await call
        assert await store.get("d1") == claimed

    @pytest.mark.parametrize("state", [S.READY, S.FAILED, S.CANCELLED, S.DELETING])
    async def test_fenced_calls_raise_lease_lost_when_the_document_is_not_processing(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        for call in (
            store.extend("d1", before.fence, LEASE_MS),
            store.checkpoint("d1", before.fence, 9),
            store.finish(before),
            store.fail("d1", before.fence, FAILURE),
            store.release("d1", before.fence),
        ):
            with pytest.raises(LeaseLost):
                await call
        assert await store.get("d1") == before

    async def test_plan_and_checkpoint_are_recorded(self, store: DocumentStore) -> None:
        fence = (await in_state(store, S.PROCESSING)).fence
        await store.plan("d1", fence, dpi=150, stage="$stage")
        await store.checkpoint("d1", fence, 16)
        found = await store.get("d1")
        assert found is not None
        assert (found.dpi, found.stage, found.pages_done) == (150, "$stage", 16)

    async def test_finishing_makes_ready_and_ends_the_lease(self, store: DocumentStore) -> None:
        claimed = await in_state(store, S.PROCESSING)
        finished = await store.finish(replace(claimed, dpi=150))
        found = await store.get("d1")
        assert found is not None
        assert replace(finished, ready_at=None, updated_at=None) == replace(found, ready_at=None, updated_at=None)
        assert finished.dpi == 150
        assert (finished.state, finished.owner, finished.lease_until_ms) == (S.READY, "", 0)
        assert finished.pages_done == finished.pages == 60
        assert found.ready_at is not None
        assert claimed.created_at is not None
        assert abs(found.ready_at - claimed.created_at) < timedelta(minutes=1)

    async def test_failing_records_the_cause_and_ends_the_lease(self, store: DocumentStore) -> None:
        claimed = await in_state(store, S.PROCESSING)
        failed = await store.fail("d1", claimed.fence, FAILURE)
        assert failed == await store.get("d1")
        assert (failed.state, failed.error, failed.stage) == (S.FAILED, FAILURE, FAILURE.stage)
        assert (failed.owner, failed.lease_until_ms, failed.ready_at) == ("", 0, None)

    async def test_a_release_counts_no_attempt_and_lets_others_in_at_once(self, store: DocumentStore) -> None:
        claimed = await in_state(store, S.PROCESSING)
        await store.checkpoint("d1", claimed.fence, 8)
        await store.release("d1", claimed.fence)
        released = await store.get("d1")
        assert released is not None
        assert (released.state, released.attempts, released.pages_done) == (S.QUEUED, 0, 8)
        again = await store.claim("d1", "other", LEASE_MS)
        assert (again.attempts, again.fence, again.pages_done) == (1, claimed.fence + 1, 8)

    async def test_queued_is_recorded_once_the_broker_has_the_job(self, store: DocumentStore) -> None:
        await store.insert(document())
        for _ in range(2):
            await store.mark_queued(document())
            found = await store.get("d1")
            assert found is not None
            assert (found.state, found.outbox) == (S.QUEUED, "sent")

    @pytest.mark.parametrize("state", [S.PROCESSING, S.READY, S.FAILED, S.CANCELLING, S.DELETING])
    async def test_a_late_record_of_the_job_moves_no_state_back(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        await store.mark_queued(document())
        after = await store.get("d1")
        assert after == replace(before, outbox="sent", updated_at=after.updated_at if after else None)

    async def test_requeueing_a_failed_document_starts_it_afresh(self, store: DocumentStore) -> None:
        failed = await in_state(store, S.FAILED)
        await store.mark_queued(document())
        assert await store.requeue("d1")
        queued = await store.get("d1")
        assert queued is not None
        assert (queued.state, queued.outbox, queued.attempts, queued.error) == (S.QUEUED, "pending", 0, None)
        assert (await store.claim("d1", "w", LEASE_MS)).fence == failed.fence + 1

    @pytest.mark.parametrize("state", [S.RECEIVED, S.QUEUED, S.PROCESSING, S.READY, S.CANCELLED, S.DELETING])
    async def test_only_a_failed_document_is_requeued(self, store: DocumentStore, state: DocumentState) -> None:
        before = await in_state(store, state)
        assert not await store.requeue("d1")
        assert not await store.requeue("unknown")
        assert await store.get("d1") == before

    @pytest.mark.parametrize(
        "state", [S.RECEIVED, S.QUEUED, S.PROCESSING, S.READY, S.FAILED, S.CANCELLING, S.CANCELLED]
    )
    async def test_a_delete_begins_in_any_state_and_moves_the_fence(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        deleting = await store.begin_delete("d1")
        assert (deleting.state, deleting.fence, deleting.owner) == (S.DELETING, before.fence + 1, "")
        assert await store.begin_delete("d1") == deleting
        with pytest.raises(LeaseLost):
            await store.finish(before)

    async def test_deleting_an_unknown_document_is_not_found(self, store: DocumentStore) -> None:
        with pytest.raises(NotFound):
            await store.begin_delete("unknown")

    async def test_removing_takes_the_record_and_its_pages(self, store: DocumentStore) -> None:
        await in_state(store, S.DELETING)
        first = document().first_page_key
        await store.put_pages([page(first), page(first + 1), page(3, document_id="d2")])
        await store.remove(document())
        await store.remove(document())
        assert await store.get("d1") is None
        assert list(await store.pages_by_key([first, first + 1, 3])) == [3]

    async def test_late_changes_for_an_upload_do_not_change_the_next_upload_of_the_file(
        self,
        store: DocumentStore,
    ) -> None:
        again = replace(document(), first_page_key=document().first_page_key + document().pages)
        await store.insert(again)
        await store.put_pages([page(again.first_page_key)])
        await store.mark_queued(document())
        with pytest.raises(Conflict):
            await store.remove(document())
        await store.begin_delete("d1")
        with pytest.raises(Conflict):
            await store.remove(document())
        found = await store.get("d1")
        assert found is not None
        assert (found.outbox, found.first_page_key) == ("pending", again.first_page_key)
        assert list(await store.pages_by_key([again.first_page_key])) == [again.first_page_key]

    async def test_a_document_is_not_removed_before_its_deletion_has_begun(self, store: DocumentStore) -> None:
        before = await in_state(store, S.READY)
        await store.put_pages([page(1)])
        with pytest.raises(Conflict):
            await store.remove(document())
        assert await store.get("d1") == before
        assert list(await store.pages_by_key([1])) == [1]
