"""Spans of Kafka records, and the headers that carry their context.

`pagemill.request.id` and `traceparent` (W3C Trace Context) are those of the job's first record; retries, dead letters
and replays keep them. `pagemill.attempt.traceparent` names the attempt that published a retry or a dead letter: the
next attempt links to it. Records of earlier releases have none of the three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ingestion.tracing import spans
from ingestion.tracing.request_ids import current_request_id, is_request_id, use_request_id
from ingestion.tracing.spans import NO_ORIGIN, Attribute, Origin, Span

HEADER_REQUEST_ID: Final = "pagemill.request.id"
HEADER_TRACEPARENT: Final = "traceparent"
HEADER_ATTEMPT: Final = "pagemill.attempt.traceparent"

Header = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Message:
    """A consumed record, as far as its span shows it. `received_ns` is the Unix time at which it was fetched."""

    topic: str
    partition: int
    offset: int
    headers: Iterable[Header]
    received_ns: int


@contextmanager
def publishing(
    topic: str, key: bytes | None, headers: Iterable[Header], origin: Origin = NO_ORIGIN
) -> Iterator[list[Header]]:
    """The block publishes a record. Yields its headers, with those of the request and of the trace added.

    `origin` is used where the task works for no request, or records no span: the janitor publishes for uploads.
    """
    kept = list(headers)
    names = {name for name, _ in kept}
    attempt = spans.current_traceparent()
    attributes: dict[str, Attribute] = {**_attributes(topic, "send"), **_key(key)}
    parent = origin.traceparent if origin.traceparent and not attempt else None
    with spans.span(f"send {topic}", "producer", attributes, parent=parent) as span:
        request_id = current_request_id() or origin.request_id
        if request_id and HEADER_REQUEST_ID not in names:
            kept.append((HEADER_REQUEST_ID, request_id.encode()))
        if HEADER_TRACEPARENT not in names:
            if span.traceparent:
                kept.append((HEADER_TRACEPARENT, span.traceparent.encode()))
        elif attempt:
            kept = [header for header in kept if header[0] != HEADER_ATTEMPT]
            kept.append((HEADER_ATTEMPT, attempt.encode()))
        yield kept


@contextmanager
def processing(message: Message, group: str) -> Iterator[Span]:
    """The block processes a record, in a task of its own, for the request that the record names.

    Records the spans "receive", from the fetch to now, and "process". Both are children of the span that published the
    job. The second links to the attempt before.
    """
    found = {name: _text(value) for name, value in message.headers if name in _CONTEXT_HEADERS}
    request_id = found.get(HEADER_REQUEST_ID, "")
    use_request_id(request_id if is_request_id(request_id) else "")
    if not spans.is_recording():
        yield spans.NO_SPAN
        return
    parent = found.get(HEADER_TRACEPARENT, "")
    attributes: dict[str, Attribute] = {
        "messaging.destination.partition.id": str(message.partition),
        "messaging.kafka.offset": message.offset,
        "messaging.consumer.group.name": group,
        **_request(current_request_id()),
    }
    topic = message.topic
    received = attributes | _attributes(topic, "receive")
    with spans.span(f"receive {topic}", "consumer", received, parent=parent, start_ns=message.received_ns):
        pass
    processed = attributes | _attributes(topic, "process")
    links = [earlier] if (earlier := found.get(HEADER_ATTEMPT)) else []
    with spans.span(f"process {topic}", "consumer", processed, parent=parent, links=links) as span:
        yield span


_CONTEXT_HEADERS: Final = frozenset({HEADER_REQUEST_ID, HEADER_TRACEPARENT, HEADER_ATTEMPT})


def _attributes(topic: str, operation: str) -> dict[str, Attribute]:
    """As in OpenTelemetry's semantic conventions for messaging, and for Kafka."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


def _request(request_id: str) -> dict[str, Attribute]:
    return {"pagemill.request.id": request_id} if request_id else {}


def _key(key: bytes | None) -> dict[str, Attribute]:
    return {"messaging.kafka.message.key": _text(key)} if key else {}


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
