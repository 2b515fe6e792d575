"""ReadyPages: the pages of a collection that a search may find."""

from __future__ import annotations

from dataclasses import replace

from ingestion.bootstrap import DocumentStore
from ingestion.model import SIGN_CODE_FORMAT, TERM_FORMAT
from ingestion.ports import PageRange
from tests.support.documents import LEASE_MS, S, document, in_state


async def ready(
    store: DocumentStore,
    id_: str,
    pages: int,
    *,
    codes_format: int = 0,
    terms_format: int = 0,
    collection: str = "c",
) -> int:
    """The first page key of the document."""
    first = await store.reserve_page_keys(pages)
    await store.insert(replace(document(id_, collection), pages=pages, first_page_key=first))
    claimed = await store.claim(id_, "w", LEASE_MS)
    await store.finish(replace(claimed, codes_format=codes_format, terms_format=terms_format))
    return first


class ReadyPagesContract:
    """Needs a fixture `store`."""

    async def test_an_unknown_collection_has_no_ready_pages(self, store: DocumentStore) -> None:
        assert await store.count_ready_pages("c") == 0
        assert await store.ready_page_ranges("c", 1) == []

    async def test_ranges_come_by_page_key_and_say_what_the_pages_have(self, store: DocumentStore) -> None:
        first = await ready(store, "z", 3, codes_format=SIGN_CODE_FORMAT, terms_format=TERM_FORMAT)
        second = await ready(store, "a", 70)
        third = await ready(store, "newer", 1, codes_format=SIGN_CODE_FORMAT + 1, terms_format=TERM_FORMAT + 1)
        await ready(store, "elsewhere", 9, collection="other")
        assert await store.ready_page_ranges("c", 1) == [
            PageRange("z", first, 3, has_codes=True, has_terms=True),
            PageRange("a", second, 70, has_codes=False, has_terms=False),
            PageRange("newer", third, 1, has_codes=False, has_terms=False),
        ]
        assert await store.count_ready_pages("c") == 74

    async def test_only_ready_documents_of_the_generation_have_ranges(self, store: DocumentStore) -> None:
        for state in (S.RECEIVED, S.QUEUED, S.PROCESSING, S.FAILED, S.DELETING):
            await in_state(store, state, state.value)
        await ready(store, "ready", 2)
        assert [one.document_id for one in await store.ready_page_ranges("c", 1)] == ["ready"]
        assert await store.ready_page_ranges("c", 2) == []
        assert await store.count_ready_pages("c") == 2
