"""Uploads, DocumentReader, PageRecords, CollectionCatalogue and Bindings."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.catalogue.generations import Binding
from ingestion.errors import BadRequest, EmbedderMismatch
from tests.support.documents import LEASE_MS, S, document, in_state, page


class RecordsContract:
    """Needs a fixture `store`."""

    async def test_an_inserted_document_comes_back_equal(self, store: DocumentStore) -> None:
        before = datetime.now(UTC)
        assert await store.insert(replace(document(), state=S.READY, outbox="sent"))
        found = await store.get("d1")
        assert found is not None
        assert found == replace(document(), created_at=found.created_at, updated_at=found.updated_at)
        assert found.created_at is not None
        assert abs(found.created_at - before) < timedelta(minutes=1)

    async def test_a_second_insert_changes_nothing(self, store: DocumentStore) -> None:
        await store.insert(document())
        claimed = await store.claim("d1", "w", LEASE_MS)
        assert not await store.insert(replace(document(), filename="other.pdf"))
        assert await store.get("d1") == claimed

    async def test_one_of_many_equal_inserts_is_the_first(self, store: DocumentStore) -> None:
        assert sorted(await asyncio.gather(*(store.insert(document()) for _ in range(10)))) == [False] * 9 + [True]

    async def test_an_unknown_document_is_none(self, store: DocumentStore) -> None:
        assert await store.get("unknown") is None

    async def test_listing_goes_page_by_page_in_the_order_of_ids(self, store: DocumentStore) -> None:
        for number in (4, 1, 3, 0, 2):
            await store.insert(document(f"d{number}"))
        await store.insert(document("d9", collection="other"))
        first = await store.list("c", limit=3)
        rest = await store.list("c", limit=3, after=first[-1].id)
        assert [found.id for found in first] == ["d0", "d1", "d2"]
        assert [found.id for found in rest] == ["d3", "d4"]
        assert [found.id for found in await store.list(after="d4")] == ["d9"]
        assert await store.list("unknown") == []

    async def test_a_listing_of_a_tenant_has_the_documents_of_all_its_collections(self, store: DocumentStore) -> None:
        for number, collection in enumerate(("c", "acme.c", "acme.d", "acme-2.c", "other.c")):
            await store.insert(document(f"d{number}", collection=collection))
        assert [found.id for found in await store.list(tenant="acme")] == ["d1", "d2"]
        assert [found.id for found in await store.list(tenant="acme", after="d1")] == ["d2"]
        assert [found.id for found in await store.list(tenant="default")] == ["d0"]
        assert [found.id for found in await store.list("acme.d", tenant="acme")] == ["d2"]
        assert await store.list(tenant="nobody") == []

    async def test_only_ready_documents_are_ready(self, store: DocumentStore) -> None:
        for state in (S.RECEIVED, S.QUEUED, S.PROCESSING, S.READY, S.FAILED, S.DELETING):
            await in_state(store, state, state.value)
        ready = await store.ready_documents([state.value for state in S] + ["unknown"])
        assert {document_id: found.state for document_id, found in ready.items()} == {"ready": S.READY}

    async def test_page_keys_are_reserved_once(self, store: DocumentStore) -> None:
        assert await store.reserve_page_keys(3) == 1
        firsts = await asyncio.gather(*(store.reserve_page_keys(5) for _ in range(40)))
        assert sorted(firsts) == list(range(4, 4 + 5 * 40, 5))

    async def test_a_collection_keeps_its_first_embedder(self, store: DocumentStore) -> None:
        assert await store.collection_fingerprint("c") is None
        await store.bind_collection("c", "minilm", 384)
        await store.bind_collection("c", "minilm", 384)
        for other in (("colqwen", 384), ("minilm", 128)):
            with pytest.raises(EmbedderMismatch, match="minilm"):
                await store.bind_collection("c", *other)
        assert await store.collection_fingerprint("c") == "minilm"
        await store.hold_collection("c", "token", lease_ms=60_000)
        await store.forget_collection("c", "token")
        await store.bind_collection("c", "colqwen", 128)
        assert await store.collection_fingerprint("c") == "colqwen"

    async def test_one_of_two_concurrent_embedders_is_refused(self, store: DocumentStore) -> None:
        names = ["one", "two"] * 5
        results = await asyncio.gather(
            *(store.bind_collection("c", name, 8) for name in names), return_exceptions=True
        )
        winner = await store.collection_fingerprint("c")
        refused = {name for name, result in zip(names, results, strict=True) if isinstance(result, EmbedderMismatch)}
        assert refused == {"one", "two"} - {winner}
        assert sum(isinstance(result, Binding) for result in results) == 5

    async def test_pages_are_replaced_by_key(self, store: DocumentStore) -> None:
        await store.put_pages([])
        await store.put_pages([page(1, text="old"), page(2)])
        await store.put_pages([page(1, text="new\0 ü"), page(3)])
        found = await store.pages_by_key([1, 2, 4], with_text=True)
        assert found == {1: page(1, text="new\0 ü"), 2: page(2)}
        assert await store.pages_by_key([1]) == {1: page(1, text="")}

    async def test_words_are_read_only_if_they_are_wanted(self, store: DocumentStore) -> None:
        kept = replace(page(1), words=b"\0boxes")
        await store.put_pages([kept])
        for wanted in ({"with_text": True}, {"with_words": True}, {"with_text": True, "with_words": True}):
            [found] = (await store.pages_by_key([1], **wanted)).values()
            assert found.text == (kept.text if "with_text" in wanted else "")
            assert found.words == (kept.words if "with_words" in wanted else b"")

    async def test_pages_are_removed_by_key(self, store: DocumentStore) -> None:
        await store.put_pages([page(key) for key in range(1, 6)])
        await store.remove_pages(2, 3)
        assert sorted(await store.pages_by_key(range(10))) == [1, 5]

    async def test_text_that_no_record_can_hold_is_refused(self, store: DocumentStore) -> None:
        with pytest.raises(BadRequest):
            await store.put_pages([page(1, text="half a character: \ud800")])

    async def test_ping_answers(self, store: DocumentStore) -> None:
        await store.ping()
