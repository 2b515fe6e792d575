"""The wire format of jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import BadMessage, NewerRecord
from ingestion.messages import (
    HEADER_DUE_MS,
    HEADER_FAILED,
    HEADER_ORIGIN,
    Origin,
    Record,
    decode_job,
    encode_event,
    encode_job,
    first_headers,
    retry_headers,
)
from ingestion.model import Document, DocumentState, Failure, IngestJob

names = st.text(st.characters(codec="utf-8"), min_size=1)


@given(names, names, names, st.integers(0, 10_000))
def test_a_job_survives_the_wire(document_id: str, collection: str, filename: str, pages: int) -> None:
    job = IngestJob(document_id, collection, filename, pages)
    key, value, headers = encode_job(job)
    assert decode_job(value) == job
    assert key == document_id.encode()
    assert dict(headers) == {"pagemill.type": b"job", "pagemill.version": b"1"}


def test_fields_of_a_newer_writer_are_ignored() -> None:
    body = json.loads(encode_job(IngestJob("d", "c", "f"))[1]) | {"priority": 3}
    assert decode_job(json.dumps(body).encode()) == IngestJob("d", "c", "f")


@pytest.mark.parametrize("pages", [None, "3", -1, 2.5, True])
def test_a_job_need_not_say_how_many_pages_there_are(pages: object) -> None:
    body = json.loads(encode_job(IngestJob("d", "c", "f", 3))[1]) | {"pages": pages}
    assert decode_job(json.dumps(body).encode()) == IngestJob("d", "c", "f")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "version"),
        (b'{"version":0}', "version 0"),
        (b'{"version":"2"}', "version '2'"),
        (b'{"version":1,"document_id":"d","collection":"c"}', "filename"),
        (b'{"version":1,"document_id":"","collection":"c","filename":"f"}', "document_id"),
        (b'{"version":1,"document_id":7,"collection":"c","filename":"f"}', "document_id"),
        (b'{"version":1,"document_id":"\\ud83d","collection":"c","filename":"f"}', "document_id"),
    ],
)
def test_an_invalid_job_is_refused_with_the_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(BadMessage, match=reason):
        decode_job(value)


def test_a_job_of_a_later_version_waits_for_the_release_that_knows_it() -> None:
    with pytest.raises(NewerRecord, match="version 2"):
        decode_job(b'{"version":2}')


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([HEADER_DUE_MS, HEADER_ORIGIN, HEADER_FAILED, "other"]),
        st.none() | st.binary() | st.integers().map(lambda number: str(number).encode()) | st.just(b"9" * 400),
    )
)


@given(HEADERS)
def test_no_headers_raise_anything_or_put_a_record_off_for_ever(headers: Any) -> None:
    record = Record(("jobs", 1), 7, None, None, tuple(headers))
    assert 0 <= record.due_in_s <= 7 * 86_400
    assert record.deliveries_failed >= 0
    assert isinstance(record.origin.offset, int)
    retry_headers(record, 10)


def test_failed_deliveries_are_counted_in_the_headers_until_a_replay() -> None:
    first = Record(("jobs", 1), 7, b"k", b"v", (("traceparent", b"x"),))
    second = replace(first, headers=tuple(retry_headers(first.failed_again(), 10)))
    third = replace(first, headers=tuple(retry_headers(second.failed_again(), 10)))
    assert [record.deliveries_failed for record in (first, second, third)] == [0, 1, 2]
    assert third.origin == Origin("jobs", 1, 7)
    assert first_headers(third.headers) == [("traceparent", b"x")]


@given(st.binary())
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    try:
        decode_job(value)
    except BadMessage:
        return


def test_an_event_contains_the_outcome_and_its_cause() -> None:
    document = Document("d", "c", "f.pdf", "k", "0" * 64, 1, pages=3, first_page_key=1, state=DocumentState.FAILED,
                        attempts=1, error=Failure("corrupt_pdf", "render", "broken"))  # fmt: skip
    _, value, _ = encode_event(document)
    body = json.loads(value)
    assert body["state"] == "failed"
    assert body["error"] == {"code": "corrupt_pdf", "stage": "render", "message": "broken"}
