"""The wire format of jobs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import BadMessage
from ingestion.messages import decode_job, encode_event, encode_job
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
        (b'{"version":2}', "version 2"),
        (b'{"version":1,"document_id":"d","collection":"c"}', "filename"),
        (b'{"version":1,"document_id":"","collection":"c","filename":"f"}', "document_id"),
        (b'{"version":1,"document_id":7,"collection":"c","filename":"f"}', "document_id"),
    ],
)
def test_what_is_not_a_job_is_refused_with_the_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(BadMessage, match=reason):
        decode_job(value)


@given(st.binary())
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    try:
        decode_job(value)
    except BadMessage:
        return


def test_an_event_tells_the_verdict_and_its_cause() -> None:
    document = Document("d", "c", "f.pdf", "k", "0" * 64, 1, pages=3, first_page_key=1, state=DocumentState.FAILED,
                        attempts=1, error=Failure("corrupt_pdf", "render", "broken"))  # fmt: skip
    _, value, _ = encode_event(document)
    body = json.loads(value)
    assert body["state"] == "failed"
    assert body["error"] == {"code": "corrupt_pdf", "stage": "render", "message": "broken"}
