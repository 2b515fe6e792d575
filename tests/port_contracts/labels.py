"""Metadata, tags and filters of documents; versions of a key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.errors import BadRequest, Conflict
from ingestion.filters import Filter, filter_text, matches, parse_filter
from ingestion.filters.columns import DocumentColumns
from ingestion.model import Document, StaleKind, newest_versions
from tests.support.documents import FAILURE, LEASE_MS, S, document, in_state


async def check_filter(store: DocumentStore, wanted: Filter, known: dict[str, Document]) -> None:
    """The store selects the documents for which the filter holds, in listings and for searches."""
    listed = [one.id for one in await store.list("c", where=wanted)]
    assert listed == sorted(id_ for id_, one in known.items() if matches(wanted, one)), filter_text(wanted)
    ready = newest_versions(one for one in known.values() if one.state is S.READY)
    expected = sorted((one.first_page_key, one.id) for one in ready if matches(wanted, one))
    found = await store.ready_page_ranges("c", 1, wanted)
    assert [(one.first_page_key, one.document_id) for one in found] == expected, filter_text(wanted)
    columns = DocumentColumns()
    columns.extend(await store.filterable_documents("c", after=-1, limit=10))
    selected = {one.first_page_key for one in known.values() if one.state is S.READY and matches(wanted, one)}
    assert columns.selected(wanted) == selected, filter_text(wanted)


async def version(
    store: DocumentStore, id_: str, key: str = "k", *, is_ready: bool = True, team: str = ""
) -> Document:
    """A document of the collection `c`, accepted now."""
    first = await store.reserve_page_keys(2)
    one = replace(document(id_), first_page_key=first, pages=2, key=key, revision=first, metadata={"team": team})
    await store.insert(one)
    if is_ready:
        await store.finish(await store.claim(id_, "w", LEASE_MS))
    return one


async def visible(store: DocumentStore, where: Filter | None = None) -> list[str]:
    return [one.document_id for one in await store.ready_page_ranges("c", 1, where)]


class LabelsContract:
    """Needs a fixture `store`."""

    async def test_metadata_and_tags_come_back_equal(self, store: DocumentStore) -> None:
        metadata = {"s": "ü $x", "i": 2**62, "f": 1.5, "b": True, "n": None, "dc.title": ""}
        await store.insert(replace(document(), metadata=metadata, tags=("b", "a")))
        found = await store.get("d1")
        assert found is not None
        assert (found.metadata, found.tags) == (metadata, ("b", "a"))
        assert type(found.metadata["i"]) is int

    async def test_metadata_change_only_where_they_are_as_known(self, store: DocumentStore) -> None:
        await store.bind_collection("c", "e", 1)
        known = await in_state(store, S.READY)
        before = await store.searchable("c")
        assert await store.change_metadata(known, {"a": 1}, ["t"])
        after = await store.searchable("c")
        assert before is not None
        assert after is not None
        assert before.version != after.version
        assert not await store.change_metadata(known, {"a": 2}, [])
        changed = await store.get("d1")
        assert changed is not None
        assert (changed.metadata, changed.tags, changed.state) == ({"a": 1}, ("t",), S.READY)
        assert await store.change_metadata(changed, {}, [])
        deleted = await in_state(store, S.DELETING, "d2")
        assert not await store.change_metadata(deleted, {"a": 2}, [])

    async def test_a_filter_needs_a_collection(self, store: DocumentStore) -> None:
        with pytest.raises(BadRequest, match="collection"):
            await store.list(where=parse_filter("a = 1"))

    async def test_ready_documents_come_page_by_page_with_the_fields_of_filters(self, store: DocumentStore) -> None:
        for id_ in ("z", "a", "m"):
            await version(store, id_, team=id_)
        await version(store, "queued", is_ready=False)
        first = await store.filterable_documents("c", after=-1, limit=2)
        assert [(one.id, one.metadata["team"]) for one in first] == [("z", "z"), ("a", "a")]
        rest = await store.filterable_documents("c", after=first[-1].first_page_key, limit=2)
        assert [one.id for one in rest] == ["m"]

    async def test_filtered_listings_go_page_by_page(self, store: DocumentStore) -> None:
        for number in range(6):
            await store.insert(replace(document(f"d{number}"), metadata={"even": number % 2 == 0}))
        even = parse_filter("even = true")
        first = await store.list("c", limit=2, where=even)
        assert [one.id for one in first] == ["d0", "d2"]
        assert [one.id for one in await store.list("c", limit=2, after="d2", where=even)] == ["d4"]

    async def test_the_same_content_is_found_but_not_what_is_leaving(self, store: DocumentStore) -> None:
        assert await store.with_content("c", "0" * 64) is None
        await version(store, "b")
        await version(store, "a", "")
        found = await store.with_content("c", "0" * 64)
        assert found is not None
        assert found.id == "b"
        await store.begin_delete("b")
        found = await store.with_content("c", "0" * 64)
        assert found is not None
        assert found.id == "a"
        assert await store.with_content("other", "0" * 64) is None


class RevisionsContract:
    """Needs a fixture `store`."""

    async def test_a_new_version_is_seen_in_place_of_the_former_one_once_it_is_ready(
        self, store: DocumentStore
    ) -> None:
        await version(store, "old")
        await version(store, "other", "another key")
        await version(store, "none", "")
        await version(store, "new", is_ready=False)
        assert await visible(store) == ["old", "other", "none"]
        await store.finish(await store.claim("new", "w", LEASE_MS))
        assert await visible(store) == ["other", "none", "new"]
        assert {key: one.id for key, one in (await store.newest_of_keys("c", ["k", "x"])).items()} == {"k": "new"}
        [replaced] = await store.stale(StaleKind.REPLACED, 0.0, 10)
        assert (replaced.id, replaced.replaced_by) == ("old", "new")
        assert await store.stale(StaleKind.REPLACED, 3600.0, 10) == []
        # A search that began before may still read it.
        assert set(await store.ready_documents(["old", "new"])) == {"old", "new"}

    async def test_a_filter_that_only_the_former_version_matches_finds_none(self, store: DocumentStore) -> None:
        await version(store, "old", team="legal")
        await version(store, "new", team="sales")
        assert await visible(store, parse_filter("team = 'legal'")) == []
        assert await visible(store, parse_filter("team = 'sales'")) == ["new"]

    async def test_the_last_accepted_version_wins_whichever_is_ready_first(self, store: DocumentStore) -> None:
        for id_ in ("1", "2", "3"):
            await version(store, id_, is_ready=id_ == "1")
        await store.finish(await store.claim("3", "w", LEASE_MS))
        assert await visible(store) == ["3"]
        await store.finish(await store.claim("2", "w", LEASE_MS))
        assert await visible(store) == ["3"]
        assert {one.id for one in await store.stale(StaleKind.REPLACED, 0.0, 10)} == {"1", "2"}

    async def test_a_failed_version_leaves_the_former_one(self, store: DocumentStore) -> None:
        await version(store, "old")
        await version(store, "new", is_ready=False)
        claimed = await store.claim("new", "w", LEASE_MS)
        await store.fail("new", claimed.fence, FAILURE)
        assert await visible(store) == ["old"]
        assert await store.stale(StaleKind.REPLACED, 0.0, 10) == []

    async def test_a_version_that_is_accepted_again_wins(self, store: DocumentStore) -> None:
        old = await version(store, "old")
        await version(store, "new", is_ready=False)
        await store.renew_revision(old, await store.reserve_page_keys(1))
        await store.finish(await store.claim("new", "w", LEASE_MS))
        assert await visible(store) == ["old"]
        assert [one.id for one in await store.stale(StaleKind.REPLACED, 0.0, 10)] == ["new"]

    async def test_no_former_version_comes_back_when_the_newest_is_deleted(self, store: DocumentStore) -> None:
        await version(store, "old")
        await version(store, "new")
        await store.begin_delete("new")
        assert await visible(store) == []

    async def test_a_deletion_may_name_the_upload(self, store: DocumentStore) -> None:
        old = await version(store, "old")
        with pytest.raises(Conflict):
            await store.begin_delete("old", first_page_key=old.first_page_key + 1)
        assert await visible(store) == ["old"]
        assert (await store.begin_delete("old", first_page_key=old.first_page_key)).state is S.DELETING
