"""Totals of documents by state, and the ages of the oldest."""

from __future__ import annotations

import asyncio

from ingestion.bootstrap import DocumentStore
from tests.support.documents import S, document, in_state


class DocumentCountsContract:
    """Needs a fixture `store`."""

    async def test_documents_are_counted_by_state(self, store: DocumentStore) -> None:
        assert await store.count_by_state() == {}
        for document_id, state in (("d1", S.READY), ("d2", S.FAILED), ("d3", S.QUEUED), ("d4", S.QUEUED)):
            await in_state(store, state, document_id)
        assert await store.count_by_state() == {S.READY: 1, S.FAILED: 1, S.QUEUED: 2}

    async def test_only_unfinished_documents_have_an_age(self, store: DocumentStore) -> None:
        await in_state(store, S.READY, "d1")
        assert await store.oldest_unfinished_s() == {}
        for document_id, state in (("d2", S.PROCESSING), ("d3", S.RECEIVED), ("d4", S.QUEUED)):
            await in_state(store, state, document_id)
        ages_s = await store.oldest_unfinished_s()
        assert ages_s.keys() == {S.PROCESSING, S.RECEIVED, S.QUEUED}
        assert all(0 <= age_s < 60 for age_s in ages_s.values())

    async def test_the_oldest_counts_and_a_replay_makes_a_document_young(self, store: DocumentStore) -> None:
        failed = await in_state(store, S.FAILED)
        await self.pass_time(store)
        await store.insert(document("d2"))
        assert await store.requeue("d1")
        replayed = await store.get("d1")
        assert replayed is not None
        assert replayed.requeued_at is not None
        assert failed.created_at is not None
        assert replayed.requeued_at > failed.created_at
        assert (await store.oldest_unfinished_s())[S.QUEUED] < 1.0

    async def pass_time(self, store: DocumentStore) -> None:
        """Let a second of the store's clock pass."""
        await asyncio.sleep(1.1)
