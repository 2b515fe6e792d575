"""Which version of a key is visible."""

from __future__ import annotations

import json
from dataclasses import replace

from bson import json_util
from hypothesis import given
from hypothesis import strategies as st

from ingestion.adapters.mongo.document_mapping import document_of, record_of
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.model import Document, document_id, newest_versions
from ingestion.settings import MongoSettings
from tests.support.documents import document

VERSIONS = st.lists(
    st.builds(
        lambda number, key, revision: replace(document(f"d{number}"), key=key, revision=revision),
        st.integers(0, 10**6),
        st.sampled_from(["", "a", "b"]),
        st.integers(1, 20),
    ),
    unique_by=(lambda one: one.id, lambda one: (one.key, one.revision)),
)


@given(VERSIONS)
def test_each_key_has_one_visible_version_and_it_is_the_newest(ready: list[Document]) -> None:
    visible = newest_versions(ready)
    keys = [one.key for one in visible if one.key]
    assert sorted(keys) == sorted({one.key for one in ready if one.key})
    for one in visible:
        assert not one.key or one.revision == max(other.revision for other in ready if other.key == one.key)
    assert [one for one in ready if not one.key] == [one for one in visible if not one.key]


def test_a_marked_version_is_not_visible_also_where_no_other_is_left() -> None:
    assert newest_versions([replace(document(), key="k", replaced_by="gone")]) == []


def test_a_document_without_a_key_keeps_the_id_of_earlier_releases() -> None:
    assert document_id("c", "a.pdf", "0" * 64) == document_id("c", "a.pdf", "0" * 64, "")
    assert document_id("c", "a.pdf", "0" * 64) != document_id("c", "a.pdf", "0" * 64, "k")


def test_a_version_that_a_backup_brings_is_older_than_the_next_upload() -> None:
    store = MongoDocumentStore(MongoSettings())
    packed = json_util.dumps(
        record_of(replace(document(), key="k", revision=10**9)), json_options=json_util.CANONICAL_JSON_OPTIONS
    )
    restored = json.loads(store.renumbered_document(packed, 7, 1, 6), object_hook=json_util.object_hook)
    assert document_of(restored).revision == 6
