"""Records that another release wrote, and damaged records: they are read in part, or refused with our errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from ingestion import dead_letters
from ingestion.adapters.mongo.archiving import _packed_document, _packed_page
from ingestion.adapters.mongo.collection_mapping import binding_of, collection_of, require_active
from ingestion.adapters.mongo.collection_versions import parsed_change
from ingestion.adapters.mongo.document_changes import event_of
from ingestion.adapters.mongo.document_mapping import document_of, page_of, page_record_of, record_of
from ingestion.api.views import DocumentView
from ingestion.catalogue.states import CollectionState
from ingestion.client.views import DocumentView as ClientView
from ingestion.errors import BadMessage, BadRecord, IngestError, NewerRecord
from ingestion.messages import Record, encode_event
from ingestion.model import Document, DocumentState, Failure, PageRecord
from ingestion.replay.entries import DeadLetterStatus

WHOLE = Document(
    "d", "c", "f.pdf", "k", "0" * 64, 1, pages=3, first_page_key=7, state=DocumentState.FAILED, attempts=5, fence=7,
    error=Failure("internal", "embed", "broken"), created_at=datetime.now(UTC),
)  # fmt: skip
PAGE = PageRecord(7, "d", 1, 10, 10, 4, "k", "text", 4)
COLLECTION = {
    "_id": "c", "embedder": "e", "dim": 32, "generation": 2, "state": "active", "version": 3, "changing": ["d:7"],
    "next": {"generation": 3, "embedder": "f", "dim": 32, "closing": ""}, "retired": ["g"],
    "leaving": [{"generation": 1, "embedder": "g", "dim": 32}], "last_used_at": datetime.now(UTC),
    "archive": {"id": "a", "documents": 1, "pages": 3, "rows": 12, "size_bytes": 5},
}  # fmt: skip
EVENT = {"at": datetime.now(UTC), "event": "claimed", "attempt": 1, "worker": "w", "detail": ""}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def damaged(record: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The record with some fields removed, some of another type, and some unknown ones."""
    names = sorted(record)

    def changed(dropped: set[str], mistyped: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in record.items() if name not in dropped}
        return {**added, **kept, **mistyped}

    return st.builds(
        changed,
        st.sets(st.sampled_from(names)),
        st.dictionaries(st.sampled_from(names), values, max_size=4),
        st.dictionaries(st.text(), values, max_size=2),
    )


READERS: list[tuple[dict[str, Any], Callable[[Any], Any]]] = [
    (page_record_of(PAGE), page_of),
    (COLLECTION, collection_of),
    (COLLECTION, binding_of),
    (record_of(WHOLE) | {"frozen_from": "ready", "archive": "a"}, _packed_document),
    (EVENT, event_of),
]


@pytest.mark.parametrize(("record", "reader"), READERS)
def test_no_damage_raises_anything_but_our_errors(record: dict[str, Any], reader: Callable[[Any], Any]) -> None:
    reader(record)

    @given(damaged(record))
    def check(found: dict[str, Any]) -> None:
        try:
            reader(found)
        except IngestError:
            return

    check()


@given(damaged(record_of(WHOLE)))
def test_a_document_with_any_damaged_record_is_shown(record: dict[str, Any]) -> None:
    document = document_of(record)
    shown = DocumentView.of(document).model_dump(mode="json")
    json.dumps(shown)
    ClientView.model_validate(shown)
    encode_event(document)
    if not document.is_readable:
        with pytest.raises((BadRecord, NewerRecord)):
            document.require_readable()


def test_a_whole_document_is_read_as_it_was_written_and_fields_of_a_newer_release_are_no_damage() -> None:
    record = record_of(WHOLE)
    assert "damage" not in record
    assert document_of(record) == WHOLE
    assert document_of({**record, "priority": {"level": 3}, "error": {**record["error"], "hint": "x"}}) == WHOLE
    assert document_of({**record, "pages": 3.0, "first_page_key": Int64(7)}) == WHOLE, "a shell writes floats"


def test_an_unknown_state_is_kept_as_it_is() -> None:
    document = document_of({**record_of(WHOLE), "state": "quarantined"})
    assert (document.state, document.state.value, document.state.is_known) == ("quarantined", "quarantined", False)
    assert (document.state.is_settled, document.damage) == (False, "")
    assert record_of(document)["state"] == "quarantined"
    with pytest.raises(NewerRecord, match="quarantined"):
        document.require_readable()


def test_damage_is_named() -> None:
    record = {**record_of(WHOLE), "pages": "three"}
    del record["fence"]
    document = document_of(record)
    assert document.damage == "pages is a str; fence is missing"
    view = DocumentView.of(document)
    assert view.error is not None
    assert (view.error.code, view.error.message) == ("bad_record", document.damage)
    with pytest.raises(BadRecord, match="fence is missing"):
        document.require_readable()


def test_a_collection_in_an_unknown_state_is_kept_and_not_used() -> None:
    record = {**COLLECTION, "state": "migrating", "archive": {"id": "a", "tier": "cold"}}
    collection = collection_of(record)
    assert (collection.state.shown, collection.state.is_under_way) == ("migrating", True)
    assert collection.archive is not None
    with pytest.raises(NewerRecord, match="migrating"):
        require_active(record)


@given(values)
def test_changes_of_an_unknown_form_are_not_touched(change: Any) -> None:
    found = parsed_change(change)
    assert found is None or isinstance(found[1], int)


@pytest.mark.parametrize("kind", [DocumentState, CollectionState, DeadLetterStatus])
def test_stored_enumerations_are_open_to_texts_alone(kind: Any) -> None:
    assert kind("x").value == "x"
    assert {kind("x"): 1}["x"] == 1
    assert all(member.is_known for member in kind)
    with pytest.raises(ValueError, match="7"):
        kind(7)


@given(damaged(page_record_of(PAGE)))
def test_a_packed_page_keeps_unknown_fields(record: dict[str, Any]) -> None:
    try:
        packed = _packed_page(record, 1)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
        return  # translated at the adapter's seam
    assert set(json.loads(packed.record)) == set(record)


LETTER = dead_letters.encode(dead_letters.of_document(WHOLE, Record(("jobs", 1), 7, b"k", b"v"), "group", None))
HEADERS = [name for name, _ in LETTER[2]]


@given(
    st.sets(st.sampled_from(HEADERS)),
    st.dictionaries(st.sampled_from(HEADERS), st.none() | st.binary()),
    st.dictionaries(st.text().map(lambda name: f"__dlq.errors.x{name}"), st.binary(), max_size=2),
)
def test_a_letter_with_any_damaged_headers_is_shown(
    dropped: set[str], changed: dict[str, Any], added: dict[str, bytes]
) -> None:
    headers = {**{name: text for name, text in LETTER[2] if name not in dropped}, **changed, **added}
    record = Record(("jobs-dlt", 0), 3, b"k", b"v", tuple(headers.items()))
    if not headers:
        with pytest.raises(BadMessage):
            dead_letters.decode(record)
        return
    letter = dead_letters.decode(record)
    assert letter.id
    assert letter.timestamp.tzinfo is not None
    dead_letters.encode(letter)
