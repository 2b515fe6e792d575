"""Sign codes: which documents have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.model import SIGN_CODE_FORMAT, DocumentState
from tests.support.documents import LEASE_MS, S, document, in_state


class SignCodesContract:
    """Needs a fixture `store`."""

    async def test_documents_without_codes_are_listed_by_id_and_counted(self, store: DocumentStore) -> None:
        for id_ in ("d3", "d1", "d2"):
            await in_state(store, S.READY, id_)
        assert [one.id for one in await store.without_codes(10)] == ["d1", "d2", "d3"]
        assert [one.id for one in await store.without_codes(1, after="d1")] == ["d2"]
        assert [one.id for one in await store.without_codes(10, collection="c")] == ["d1", "d2", "d3"]
        assert await store.without_codes(10, collection="other") == []
        assert (await store.count_without_codes(10), await store.count_without_codes(2)) == (3, 2)
        assert await store.count_without_codes(10, collection="c") == 3
        assert await store.count_without_codes(10, collection="other") == 0

    @pytest.mark.parametrize("state", [S.RECEIVED, S.QUEUED, S.PROCESSING, S.FAILED, S.DELETING])
    async def test_a_document_that_is_not_ready_needs_no_codes(
        self, store: DocumentStore, state: DocumentState
    ) -> None:
        before = await in_state(store, state)
        assert await store.without_codes(10) == []
        assert await store.count_without_codes(10) == 0
        assert not await store.set_codes_format(before, SIGN_CODE_FORMAT)
        assert await store.get("d1") == before

    async def test_a_document_becomes_ready_with_its_codes(self, store: DocumentStore) -> None:
        await store.insert(document())
        claimed = await store.claim("d1", "w", LEASE_MS)
        finished = await store.finish(replace(claimed, codes_format=SIGN_CODE_FORMAT))
        found = await store.get("d1")
        assert found is not None
        assert finished.codes_format == found.codes_format == SIGN_CODE_FORMAT
        assert await store.without_codes(10) == []

    async def test_the_format_is_recorded_and_taken_back(self, store: DocumentStore) -> None:
        ready = await in_state(store, S.READY)
        assert await store.set_codes_format(ready, SIGN_CODE_FORMAT)
        assert await store.without_codes(10) == []
        assert not await store.set_codes_format(ready, SIGN_CODE_FORMAT)  # another process has done so
        found = await store.get("d1")
        assert found is not None
        assert found.codes_format == SIGN_CODE_FORMAT
        assert await store.set_codes_format(found, 0)
        assert [one.id for one in await store.without_codes(10)] == ["d1"]

    async def test_codes_of_a_newer_format_are_left_alone(self, store: DocumentStore) -> None:
        await store.set_codes_format(await in_state(store, S.READY), SIGN_CODE_FORMAT + 1)
        assert await store.without_codes(10) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"first_page_key": 7},
            {"generation": 2},
            {"next_generation": 2},
            {"next_pages_done": 3},
            {"codes_format": SIGN_CODE_FORMAT},
        ],
        ids=lambda change: next(iter(change)),
    )
    async def test_the_format_is_recorded_only_if_the_document_is_as_it_was(
        self, store: DocumentStore, change: dict[str, Any]
    ) -> None:
        ready = await in_state(store, S.READY)
        assert not await store.set_codes_format(replace(ready, **change), SIGN_CODE_FORMAT)
        assert not await store.set_codes_format(replace(ready, id="unknown"), SIGN_CODE_FORMAT)
        assert await store.get("d1") == ready
