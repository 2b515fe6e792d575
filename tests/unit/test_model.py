"""Ids, names and states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import BadRequest
from ingestion.model import (
    MAX_FILENAME_BYTES,
    TRANSITIONS,
    DocumentState,
    both_vectors_keys,
    check_collection,
    clean_filename,
    document_id,
    image_key,
    sources_of,
    vectors_key,
)


@given(st.text())
def test_a_filename_becomes_a_harmless_name(name: str) -> None:
    cleaned = clean_filename(name)
    assert 0 < len(cleaned.encode()) <= MAX_FILENAME_BYTES
    assert not set(cleaned) & {"/", "\\", "\0", "\n", "\r"}
    assert cleaned not in (".", "..")
    assert clean_filename(cleaned) == cleaned


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ('C:\\Users\\me\\Q3 "final".pdf', 'Q3 "final".pdf'),
        ("名前 🙂.pdf", "名前 🙂.pdf"),
        ("..", "unnamed.pdf"),
        ("a\x00b\r\nc.pdf", "abc.pdf"),
        ("🙂" * 100, "🙂" * 63),
        ("🙂" * 100 + ".pdf", "🙂" * 62 + ".pdf"),
        ("Screenshot 2024-05-01 at 9.41.00\u202fAM.png", "Screenshot 2024-05-01 at 9.41.00 AM.png"),
        ("a\u00a0b\u3000c\u2028d.pdf", "a b c d.pdf"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.pdf",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.pdf",
        ),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467.pdf", "\U0001f468\u200d\U0001f469\u200d\U0001f467.pdf"),
        ("\U0001fae9 new.pdf", "\U0001fae9 new.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("u\u0308ber.pdf", "\u00fcber.pdf"),
        ("\ud83d.pdf", ".pdf"),
    ],
)
def test_filenames(given: str, shown: str) -> None:
    assert clean_filename(given) == shown


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a/b", "ä", "a" * 101, "a.b", "a\n"])
def test_unusable_collection_names_are_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="collection name"):
        check_collection(name)


@pytest.mark.parametrize("name", ["a", "default", "0b-9_X", "a" * 100])
def test_usable_collection_names_pass(name: str) -> None:
    assert check_collection(name) == name


def test_the_same_file_is_the_same_document_and_any_difference_makes_another() -> None:
    base = document_id("c", "f.pdf", "ab")
    assert base == document_id("c", "f.pdf", "ab")
    others = [("d", "f.pdf", "ab"), ("c", "g.pdf", "ab"), ("c", "f.pdf", "ac"), ("cf", ".pdf", "ab")]
    assert len({base, *(document_id(*other) for other in others)}) == 5


def test_object_keys() -> None:
    assert image_key("d", 7, "webp") == "documents/d/pages/000007.webp"
    assert vectors_key("d", 12345) == "documents/d/pages/012345.vec"
    assert vectors_key("d", 7, 2) == "documents/d/pages/000007.g2.vec"
    assert both_vectors_keys("d", 7, 2) == (vectors_key("d", 7, 2), "documents/d/pages/000007.g2.bf16")


def test_every_state_is_reachable_and_only_deleted_is_final() -> None:
    reached = {DocumentState.RECEIVED}
    while new := {target for source in reached for target in TRANSITIONS[source]} - reached:
        reached |= new
    assert reached == set(DocumentState)
    assert [state for state, targets in TRANSITIONS.items() if not targets] == [DocumentState.DELETED]


def test_a_ready_document_can_only_be_deleted_or_archived() -> None:
    assert TRANSITIONS[DocumentState.READY] == {DocumentState.DELETING, DocumentState.ARCHIVED}
    assert "ready" not in sources_of(DocumentState.PROCESSING)
    assert sources_of(DocumentState.READY) == ["archived", "processing"]
