"""Terms: which documents have them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.model import TERM_FORMAT, DocumentState
from tests.support.documents import LEASE_MS, S, document, in_state


class TermsContract:
    """Needs a fixture `store`."""

    async def test_documents_without_terms_are_listed_by_id_and_counted(self, store: DocumentStore) -> None:
        for id_ in ("d3", "d1", "d2"):
            await in_state(store, S.READY, id_)
        assert [one.id for one in await store.without_terms(10)] == ["d1", "d2", "d3"]
        assert [one.id for one in await store.without_terms(1, after="d1")] == ["d2"]
        assert [one.id for one in await store.without_terms(10, collection="c")] == ["d1", "d2", "d3"]
        assert await store.without_terms(10, collection="other") == []
        assert (await store.count_without_terms(10), await store.count_without_terms(2)) == (3, 2)
        assert await store.count_without_terms(10, collection="other") == 0

    @pytest.mark.parametrize("state", [S.RECEIVED, S.QUEUED, S.PROCESSING, S.FAILED, S.DELETING])
    async def test_a_document_that_is_not_ready_needs_no_terms(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        assert await store.without_terms(10) == []
        assert not await store.set_terms_format(before, TERM_FORMAT)
        assert await store.get("d1") == before

    async def test_a_document_becomes_ready_with_its_terms(self, store: DocumentStore) -> None:
        await store.insert(document())
        claimed = await store.claim("d1", "w", LEASE_MS)
        finished = await store.finish(replace(claimed, terms_format=TERM_FORMAT))
        found = await store.get("d1")
        assert found is not None
        assert finished.terms_format == found.terms_format == TERM_FORMAT
        assert await store.without_terms(10) == []

    async def test_the_format_of_terms_is_recorded_and_taken_back(self, store: DocumentStore) -> None:
        ready = await in_state(store, S.READY)
        assert await store.set_terms_format(ready, TERM_FORMAT)
        assert await store.without_terms(10) == []
        assert not await store.set_terms_format(ready, TERM_FORMAT)  # another process has done so
        found = await store.get("d1")
        assert found is not None
        assert await store.set_terms_format(found, 0)
        assert [one.id for one in await store.without_terms(10)] == ["d1"]

    async def test_terms_of_a_newer_format_are_left_alone(self, store: DocumentStore) -> None:
        await store.set_terms_format(await in_state(store, S.READY), TERM_FORMAT + 1)
        assert await store.without_terms(10) == []

    async def test_the_terms_of_an_upload_say_nothing_of_the_next_one(self, store: DocumentStore) -> None:
        ready = await in_state(store, S.READY)
        assert not await store.set_terms_format(replace(ready, first_page_key=99), TERM_FORMAT)
        assert not await store.set_terms_format(replace(ready, id="unknown"), TERM_FORMAT)
