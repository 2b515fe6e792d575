"""Recovery: documents and versions that a crash or an outage left half done."""

from __future__ import annotations

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.model import DocumentState, StaleKind
from tests.support.documents import LEASE_MS, S, document, expired, in_state


class RecoveryContract:
    """Needs a fixture `store`."""

    @pytest.mark.parametrize(
        ("state", "kind"),
        [
            (S.RECEIVED, StaleKind.UNPUBLISHED),
            (S.QUEUED, StaleKind.LOST),
            (S.FAILED, StaleKind.DEAD_LETTER_PENDING),
            (S.DELETING, StaleKind.HALF_DELETED),
            (S.CANCELLING, StaleKind.HALF_CANCELLED),
        ],
    )
    async def test_a_document_is_stale_in_one_way(
        self, store: DocumentStore, state: DocumentState, kind: StaleKind
    ) -> None:
        await in_state(store, state)
        found = {one: [document.id for document in await store.stale(one, 0.0, 10)] for one in StaleKind}
        assert found == {one: ["d1"] if one is kind else [] for one in StaleKind}
        assert await store.stale(kind, 3600.0, 10) == []
        assert await store.stale(kind, 0.0, 10, collection="other") == []

    async def test_a_running_lease_is_not_abandoned_and_does_not_expire(self, store: DocumentStore) -> None:
        await store.insert(document())
        claimed = await store.claim("d1", "w", LEASE_MS)
        assert await store.stale(StaleKind.ABANDONED, 0.0, 10) == []
        assert not await store.expire("d1", claimed.fence)

    async def test_a_lease_that_has_ended_expires_once_and_stays_counted(self, store: DocumentStore) -> None:
        dead = await expired(store)
        assert [one.id for one in await store.stale(StaleKind.ABANDONED, 0.0, 10)] == ["d1"]
        assert not await store.expire("d1", dead.fence + 1)
        assert await store.expire("d1", dead.fence)
        assert not await store.expire("d1", dead.fence)
        queued = await store.get("d1")
        assert queued is not None
        assert (queued.state, queued.outbox, queued.attempts) == (S.QUEUED, "pending", 1)
        assert [event.event for event in await store.history("d1")] == ["claimed", "lease expired"]

    async def test_a_dead_letter_is_pending_until_it_is_sent(self, store: DocumentStore) -> None:
        failed = await in_state(store, S.FAILED)
        await store.mark_dead_letter_sent("d1", failed.fence + 1)
        assert len(await store.stale(StaleKind.DEAD_LETTER_PENDING, 0.0, 10)) == 1
        await store.mark_dead_letter_sent("d1", failed.fence)
        assert await store.stale(StaleKind.DEAD_LETTER_PENDING, 0.0, 10) == []
