"""DocumentFeed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ingestion.bootstrap import DocumentStore
from ingestion.catalogue.states import CollectionTotals
from tests.support.documents import LEASE_MS, S, document, in_state


class DocumentFeedContract:
    """Needs a fixture `store` and `pass_time`."""

    async def pass_time(self, store: DocumentStore) -> None:
        raise NotImplementedError

    async def test_a_feed_has_the_changes_since_a_moment_in_their_order(self, store: DocumentStore) -> None:
        for number in (1, 2, 3):
            await store.insert(document(f"d{number}"))
        await store.insert(document("other", collection="c2"))
        await self.pass_time(store)
        await store.claim("d2", "w", LEASE_MS)
        since_ms = await store.last_change_ms("c")
        await self.pass_time(store)
        await store.claim("d1", "w", LEASE_MS)
        assert [one.id for one in await store.changed_since("c", since_ms, 10)] == ["d2", "d1"]
        assert [one.id for one in await store.changed_since("c", since_ms, 1)] == ["d2"]
        assert [one.id for one in await store.changed_since("c", since_ms + 1, 10)] == ["d1"]
        assert {one.id for one in await store.changed_since("c", 0, 10)} == {"d1", "d2", "d3"}
        assert [one.id for one in await store.changed_since("c", await store.last_change_ms("c") + 1, 10)] == []

    async def test_archiving_and_restoring_are_changes(self, store: DocumentStore) -> None:
        await in_state(store, S.READY)
        for change, state in ((store.freeze, S.ARCHIVED), (store.thaw, S.READY)):
            since_ms = await store.last_change_ms("c") + 1
            await self.pass_time(store)
            await change("c", "archive")
            assert [(one.id, one.state) for one in await store.changed_since("c", since_ms, 10)] == [("d1", state)]

    async def test_documents_at_rest_are_frozen_and_get_their_state_back(self, store: DocumentStore) -> None:
        at_rest = {"ready": S.READY, "failed": S.FAILED, "cancelled": S.CANCELLED}
        for id_, state in at_rest.items():
            await in_state(store, state, id_)
        busy = {"cancelling": S.CANCELLING, "processing": S.PROCESSING, "queued": S.QUEUED}
        for id_, state in busy.items():
            await in_state(store, state, id_)
        await store.freeze("c", "archive")
        assert {one.id: one.state for one in await store.unfrozen("c", 10)} == busy
        await store.thaw("c", "archive")
        assert {one.id: one.state for one in await store.unfrozen("c", 10)} == busy | at_rest

    async def test_a_collection_without_documents_never_changed(self, store: DocumentStore) -> None:
        assert await store.last_change_ms("unknown") == 0

    async def test_documents_that_wait_are_counted_in_the_order_of_their_uploads(self, store: DocumentStore) -> None:
        for number in (1, 2, 3, 4):
            await store.insert(document(f"d{number}", collection=f"c{number % 2}"))
            await self.pass_time(store)
        await store.claim("d2", "w", LEASE_MS)
        last = await store.get("d4")
        assert last is not None
        assert await store.waiting_before(last, 10) == 2
        assert await store.waiting_before(last, 1) == 1
        first = await store.get("d1")
        assert first is not None
        assert await store.waiting_before(first, 10) == 0

    async def test_totals_are_those_of_a_tenant_by_collection(self, store: DocumentStore) -> None:
        for name, collection, state in (("a", "c", S.READY), ("b", "c", S.READY), ("d", "c", S.FAILED)):
            await in_state(store, state, name, collection=collection)
        await store.insert(replace(document("e", collection="acme.c"), pages=7, size_bytes=70))
        own = await store.collection_totals("default")
        assert own.keys() == {"c"}
        assert own["c"].documents == {S.READY: 2, S.FAILED: 1}
        assert own["c"].source_bytes == 3 * document("a").size_bytes
        assert await store.collection_totals("acme") == {"acme.c": CollectionTotals(Counter(received=1), 0, 70)}
        assert await store.collection_totals("unknown") == {}
        assert (await store.collection_totals()).keys() == {"c", "acme.c"}
