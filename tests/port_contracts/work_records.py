"""What every implementation of the port WorkRecords keeps."""

from __future__ import annotations

from ingestion.bootstrap import DocumentStore
from tests.support.documents import S, document, in_state


class WorkRecordsContract:
    async def test_documents_in_work_are_shown_by_tenant(self, store: DocumentStore) -> None:
        for number, state in enumerate((S.READY, S.QUEUED, S.PROCESSING)):
            await in_state(store, state, f"d{number}")
        await store.insert(document("d9", collection="acme.c"))
        await store.claim("d9", "w2", 60_000)
        await store.insert(document("d8", collection="acme.c"))
        await store.claim("d8", "w2", 0)  # its worker is gone
        assert {one.id for one in await store.in_work(10)} == {"d2", "d9"}
        assert len(await store.in_work(1)) == 1
        assert [(one.id, one.owner) for one in await store.in_work(10, tenant="acme")] == [("d9", "w2")]
        assert [one.id for one in await store.in_work(10, tenant="default")] == ["d2"]

    async def test_documents_that_were_finished_are_counted_by_minute(self, store: DocumentStore) -> None:
        for number, state in enumerate((S.READY, S.READY, S.FAILED, S.PROCESSING, S.CANCELLED)):
            await in_state(store, state, f"d{number}")
        await store.insert(document("d9", collection="acme.c"))
        counts = {S.READY: [0, 0], S.FAILED: [0, 0]}
        minutes = await store.finished(5, 1000)
        for one in minutes:
            assert one.at.second == 0
            counts[one.state][0] += one.documents
            counts[one.state][1] += one.pages
        assert list(minutes) == sorted(minutes, key=lambda one: (one.at, one.state))
        assert counts == {S.READY: [2, 120], S.FAILED: [1, 60]}
        assert sum(one.documents for one in await store.finished(5, 1)) == 2  # one of each state
        assert await store.finished(5, 1000, tenant="acme") == []
        assert sum(one.documents for one in await store.finished(5, 1000, tenant="default")) == 3
