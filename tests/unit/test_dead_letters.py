"""The wire format of dead letters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion import dead_letters
from ingestion.errors import BadMessage, WorkerFault
from ingestion.messages import HEADER_ORIGIN, Origin, Record, encode_job, retry_headers
from ingestion.model import Document, DocumentState, Failure, IngestJob

text = st.text(st.characters(codec="utf-8"))
headers = st.lists(st.tuples(st.sampled_from(["a", "b", "traceparent"]), st.binary()))


def failed(document_id: str = "d", message: str = "broken") -> Document:
    return Document(
        document_id, "c", "f.pdf", "k", "0" * 64, 1, pages=3, first_page_key=1, state=DocumentState.FAILED,
        attempts=5, fence=7, error=Failure("internal", "embed", message),
    )  # fmt: skip


def over_the_wire(letter: dead_letters.DeadLetter) -> dead_letters.DeadLetter:
    key, value, sent = dead_letters.encode(letter)
    return dead_letters.decode(Record(("jobs-dlt", 0), 0, key, value, tuple(sent)))


@hypothesis_settings(max_examples=30)
@given(text, st.binary() | st.none(), st.binary() | st.none(), headers)
def test_a_letter_survives_the_wire_and_leaves_key_value_and_headers_alone(
    message: str, key: bytes | None, value: bytes | None, own: list[tuple[str, bytes]]
) -> None:
    record = Record(("jobs", 3), 17, key, value, tuple(own))
    try:
        raise WorkerFault(message)
    except WorkerFault as error:
        letter = dead_letters.of_document(failed(message=message), record, "group", error)
    assert over_the_wire(letter) == letter
    assert (letter.key, letter.value, letter.headers) == (key, value, tuple(own))
    assert letter.id == "d-1-7", "of its document, its first page key and its fence"
    assert letter.origin == Origin("jobs", 3, 17)
    assert datetime.now(UTC) - letter.timestamp < timedelta(minutes=1)
    assert Path(__file__).name in letter.stacktrace


def test_headers_are_named_as_kip_1191_names_them() -> None:
    letter = dead_letters.of_document(failed(), Record(("jobs", 3), 17, b"k", b"v"), "group", None)
    sent = {name: text.decode() for name, text in dead_letters.encode(letter)[2]}
    expected = {
        "topic": "jobs",
        "partition": "3",
        "offset": "17",
        "group": "group",
        "delivery.count": "5",
        "message": "broken",
        "code": "internal",
        "stage": "embed",
        "exception.class.name": "",
        "stacktrace": "",
        "document.id": "d",
    }
    assert {name: sent[f"__dlq.errors.{name}"] for name in expected} == expected


def test_a_retried_job_is_identified_by_its_first_topic_partition_and_offset() -> None:
    first = Record(("team:jobs", 3), 17, b"k", b"v")
    second = Record(("team:jobs-retry-10000", 8), 2, b"k", b"v", tuple(retry_headers(first, 10_000)))
    third = Record(("team:jobs-retry-60000", 1), 5, b"k", b"v", tuple(retry_headers(second, 60_000)))
    assert third.origin == Origin("team:jobs", 3, 17)
    assert len(dict(third.headers)) == len(third.headers), "no header twice"
    assert 50 < third.due_in_s < 60.1
    assert first.due_in_s == 0


@pytest.mark.parametrize("origin", [b"", b"jobs:1", b"jobs:one:2", b"\xff"])
def test_an_origin_that_cannot_be_read_is_the_record_itself(origin: bytes) -> None:
    record = Record(("jobs-retry-10000", 8), 2, b"k", b"v", ((HEADER_ORIGIN, origin),))
    assert record.origin == Origin("jobs-retry-10000", 8, 2)


def test_a_letter_made_without_its_record_carries_the_same_job() -> None:
    letter = dead_letters.of_recovered(failed(), "group")
    job = IngestJob.of(failed())
    key, value, _ = encode_job(job)
    assert (letter.key, letter.value, letter.job) == (key, value, job)
    assert over_the_wire(letter) == letter


def test_a_record_without_the_headers_is_no_letter() -> None:
    with pytest.raises(BadMessage, match="no dead letter"):
        dead_letters.decode(Record(("jobs-dlt", 0), 0, b"k", b"v"))


@hypothesis_settings(max_examples=30)
@given(st.binary(max_size=1_000) | st.none(), st.binary(max_size=1_000) | st.none(), headers)
def test_a_cut_letter_is_small_and_says_how_long_its_record_is(
    key: bytes | None, value: bytes | None, own: list[tuple[str, bytes]]
) -> None:
    record = Record(("jobs", 3), 17, key, value, tuple(own))
    letter = dead_letters.of_record(record, "group", BadMessage("x" * 5_000))
    found = over_the_wire(letter.cut())
    assert (found.id, found.origin, found.headers) == (letter.id, letter.origin, ())
    assert len(found.key or b"") + len(found.value or b"") <= 400
    assert found.is_cut == ((found.key, found.value) != (key, value))
    assert found.whole_bytes == (len(key or b"") + len(value or b"") if found.is_cut else 0)
    assert sum(len(name) + len(text) for name, text in dead_letters.encode(letter.cut())[2]) < 1_500
