"""Spans and request ids, with an exporter in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from ingestion.errors import EncryptedPdf
from ingestion.messages import Record
from ingestion.model import IngestJob
from ingestion.tracing import (
    current_request_id,
    inject,
    log_fields,
    processing,
    publishing,
    serving,
    span,
    use_request_id,
)
from ingestion.tracing.http import end_request
from ingestion.tracing.messaging import HEADER_ATTEMPT, HEADER_REQUEST_ID, HEADER_TRACEPARENT, Message
from tests.support.memory_worker import DELAYS_S, MemoryWorker, job
from tests.support.traces import Recorded, recorded_spans
from workers.consumer.record_runner import RecordRunner

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NOT_SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"


@pytest.fixture(autouse=True)
def no_request() -> Iterator[None]:
    use_request_id("")
    yield
    use_request_id("")


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with recorded_spans() as found:
        yield found


def runner(worker: MemoryWorker) -> RecordRunner:
    return RecordRunner(worker.pipeline.run, worker.documents, worker.queue, worker.pipeline.outcomes)


def message(*headers: tuple[str, bytes]) -> Message:
    return Message("jobs", 3, 17, headers, received_ns=1)


def traces(recorded: Recorded) -> set[int]:
    return {one.context.trace_id for one in recorded.all}


def test_nothing_is_recorded_and_no_exporter_is_imported_without_an_endpoint() -> None:
    """redis imports the metrics of an SDK that is installed, without using them."""
    code = """
import sys
from ingestion.settings import Settings
from ingestion.tracing import span
from ingestion.tracing.export import tracing
import workers.cli, workers.worker, ingestion.api.app
with tracing(Settings().tracing, "worker"), span("x") as one:
    assert one.traceparent == ""
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_one_trace_leads_from_the_upload_to_ready(recorded: Recorded) -> None:
    worker = MemoryWorker()
    with serving({"method": "POST", "path": "/", "headers": [(b"x-request-id", b"r-1")]}) as request:
        document = await worker.uploaded(pages=4)
        await worker.queue.publish(IngestJob.of(document))
        end_request(request, {"method": "POST"}, 202)
    use_request_id("")
    [record] = worker.queue.jobs
    await runner(worker).run(record)

    assert traces(recorded) == {recorded.one("POST").context.trace_id}
    sent, process, receive = (recorded.one(f"{name} pagemill.jobs") for name in ("send", "process", "receive"))
    assert recorded.parent_of(sent).name == "POST"
    assert recorded.parent_of(process) == recorded.parent_of(receive) == sent
    assert (sent.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    attempt = recorded.one("attempt")
    assert recorded.parent_of(attempt) == recorded.parent_of(recorded.one("claim")) == process
    for stage, number in {"fetch": 1, "render": 3, "embed": 2, "write": 2, "checkpoint": 2, "ready": 1}.items():
        found = recorded.named(stage)
        assert len(found) == number, stage
        assert {recorded.parent_of(one).name for one in found} == {"attempt"}
    assert recorded.parent_of(recorded.one("send pagemill.events")) == attempt
    assert dict(attempt.attributes or {}) == {
        "pagemill.document.id": "d1",
        "pagemill.collection": "manuals",
        "pagemill.attempt": 1,
        "pagemill.pages": 4,
        "pagemill.outcome": "ready",
    }
    assert dict(process.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "pagemill.jobs",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": "workers",
        "pagemill.request.id": "r-1",
    }


async def test_a_retry_and_a_replay_stay_in_the_trace_and_link_to_the_attempt_before(recorded: Recorded) -> None:
    worker = MemoryWorker()
    document = await worker.uploaded()
    with span("upload"):
        use_request_id("r-1")
        await worker.queue.publish(IngestJob.of(document))
    worker.embedder.error = RuntimeError("secret text of a page")
    await runner(worker).run(worker.queue.jobs[0])
    worker.embedder.error = EncryptedPdf("secret text of a page")
    [retried] = worker.queue.retries(DELAYS_S[0])
    worker.clock.advance(DELAYS_S[0])
    await runner(worker).run(retried)
    worker.embedder.error = None
    [letter] = worker.queue.letters
    use_request_id("")
    assert await worker.documents.requeue(document.id)
    await worker.queue.replay(letter)
    await runner(worker).run(worker.queue.jobs[-1])

    first, second, third = [one for one in recorded.all if one.name.startswith("process ")]
    assert {one.context.trace_id for one in (first, second, third)} == {recorded.one("upload").context.trace_id}
    attempts = [[one.context.span_id] for one in recorded.named("attempt")]
    assert len(attempts) == 3
    links = [[link.context.span_id for link in one.links] for one in (first, second, third)]
    assert links == [[], *attempts[:2]]
    assert {dict(one.attributes or {})["pagemill.request.id"] for one in (first, second, third)} == {"r-1"}
    assert [dict(one.attributes or {}).get("error.type") for one in recorded.named("attempt")] == [
        "internal",
        "encrypted_pdf",
        None,
    ]
    assert "secret" not in "".join(one.to_json() for one in recorded.all)


def test_a_span_shows_the_code_of_an_error_and_not_its_message(recorded: Recorded) -> None:
    with pytest.raises(EncryptedPdf), span("outer"), span("inner"):
        raise EncryptedPdf("a secret text")
    for one in recorded.all:
        assert one.status.status_code is StatusCode.ERROR
        assert one.attributes == {"error.type": "encrypted_pdf"}
        assert not one.events


def test_attributes_are_cut(recorded: Recorded) -> None:
    with span("x", attributes={"a": "y" * 1000}) as one:
        one.set({f"b{number}": number for number in range(100)})
    attributes = recorded.one("x").attributes or {}
    assert len(attributes) == 32
    assert max(len(str(value)) for value in attributes.values()) <= 256


@pytest.mark.parametrize(("traceparent", "ratio", "is_recorded"), [
    (TRACEPARENT, 0.0, True), (NOT_SAMPLED, 1.0, False), ("", 0.0, False), ("", 1.0, True), ("nonsense", 1.0, True),
])  # fmt: skip
def test_sampling_follows_the_caller_else_the_ratio(traceparent: str, ratio: float, is_recorded: bool) -> None:
    with recorded_spans(ratio) as recorded:
        headers = [(b"traceparent", traceparent.encode())]
        with serving({"method": "GET", "path": "/", "headers": headers}), span("inner"):
            pass
        assert recorded.names == (["inner", "GET"] if is_recorded else [])


def test_what_follows_from_a_span_that_is_not_sampled_is_not_sampled() -> None:
    with recorded_spans(0.0) as recorded:
        with span("upload"), publishing("jobs", b"k", []) as headers:
            pass
        assert dict(headers)[HEADER_TRACEPARENT].endswith((b"-00", b"-02"))
        with processing(message(*headers), "group"):
            pass
        assert recorded.names == []


def test_the_headers_of_an_earlier_release_begin_a_trace(recorded: Recorded) -> None:
    with processing(message(("pagemill.type", b"job"), ("traceparent", b"\xff")), "group"):
        assert current_request_id() == ""
    assert recorded.one("process jobs").parent is None


def test_a_record_keeps_the_first_context_and_names_the_last_attempt(recorded: Recorded) -> None:
    kept = [(HEADER_REQUEST_ID, b"r-1"), (HEADER_TRACEPARENT, TRACEPARENT.encode()), (HEADER_ATTEMPT, b"older")]
    with span("attempt") as attempt, publishing("jobs-retry", b"k", kept) as headers:
        assert dict(headers) == {
            HEADER_REQUEST_ID: b"r-1",
            HEADER_TRACEPARENT: TRACEPARENT.encode(),
            HEADER_ATTEMPT: attempt.traceparent.encode(),
        }
        assert len(headers) == 3


def test_a_process_without_traces_keeps_the_context_of_records() -> None:
    kept = [(HEADER_TRACEPARENT, TRACEPARENT.encode()), (HEADER_ATTEMPT, b"older")]
    with publishing("jobs-retry", b"k", kept) as headers:
        assert headers == kept


@pytest.mark.parametrize("sent", [b"", b"with space", b"a" * 129, b"\xff", b'"}\n{'])
def test_an_unusable_request_id_is_replaced(sent: bytes) -> None:
    with serving({"method": "GET", "path": "/", "headers": [(b"x-request-id", sent)]}):
        assert len(current_request_id()) == 32
    with processing(message((HEADER_REQUEST_ID, sent)), "group"):
        assert current_request_id() == ""


def test_ids_go_into_log_lines_and_requests(recorded: Recorded) -> None:
    headers: dict[str, str] = {}
    use_request_id("r-1")
    with span("x") as one:
        inject(headers)
        fields = log_fields()
    assert headers == {"X-Request-ID": "r-1", "traceparent": one.traceparent}
    assert one.traceparent.startswith(f"00-{fields['trace_id']}-{fields['span_id']}-")
    assert log_fields() == {"request_id": "r-1"}


async def test_the_janitor_publishes_under_the_span_of_the_upload(recorded: Recorded) -> None:
    worker = MemoryWorker()
    document = replace(await worker.uploaded(is_published=False), request_id="r-1", traceparent=TRACEPARENT)
    await worker.queue.publish(IngestJob.of(document))
    headers: dict[str, Any] = dict(worker.queue.jobs[0].headers)
    assert headers[HEADER_REQUEST_ID] == b"r-1"
    assert headers[HEADER_TRACEPARENT].split(b"-")[1] == TRACE.encode()


async def test_a_job_without_ids_has_the_headers_of_an_earlier_release() -> None:
    worker = MemoryWorker()
    record: Record = job(await worker.uploaded())
    assert [name for name, _ in record.headers] == ["pagemill.type", "pagemill.version"]


def test_a_request_is_named_by_its_route(recorded: Recorded) -> None:
    scope = {"method": "GET", "path": "/api/v1/documents/d1", "route": SimpleNamespace(path="/documents/{id}")}
    with serving(scope) as request:
        end_request(request, scope, 503)
    found = recorded.one("GET /api/v1/documents/{id}")
    assert found.attributes is not None
    assert found.attributes["http.route"] == "/api/v1/documents/{id}"
    assert found.attributes["http.response.status_code"] == 503
    assert found.status.status_code is StatusCode.ERROR
