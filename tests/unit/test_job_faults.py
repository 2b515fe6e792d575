"""An error of a job belongs to its record, with a bound on deliveries. Only an error of the worker ends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from ingestion.dead_letters import DeadLetter
from ingestion.errors import (
    BadRecord,
    Conflict,
    DependencyUnavailable,
    IngestError,
    LeaseHeld,
    MessageTooLarge,
    NewerRecord,
    WorkerFault,
)
from ingestion.messages import Record, encode_job, retry_headers
from ingestion.model import Document, DocumentState, Failure, IngestJob
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import FailureRun
from workers.consumer.record_runner import RecordRunner

DELAYS_S = (10, 60)
MAX_ATTEMPTS = 4
KEY, VALUE, _ = encode_job(IngestJob("d", "c", "f.pdf"))
RECORD = Record(("jobs", 1), 7, KEY, VALUE, (("traceparent", b"x"),))
QUEUED = Document("d", "c", "f.pdf", "k", "0" * 64, 1, pages=3, first_page_key=1, state=DocumentState.QUEUED)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Tracebacks are pretty on a terminal, and slow to make."""
    with capture_logs():
        yield


@dataclass
class Queue:
    """Keeps the published records."""

    retried: list[tuple[Record, int]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    announced: list[Document] = field(default_factory=list)
    broken: Exception | None = None

    async def retry(self, record: Record, delay_s: int) -> None:
        if self.broken:
            raise self.broken
        self.retried.append((replace(record, headers=tuple(retry_headers(record, delay_s * 1000))), delay_s))

    async def publish_dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    async def announce(self, document: Document) -> None:
        self.announced.append(document)


@dataclass
class Ledger:
    """One document, or the error that reading it raises."""

    document: Document | Exception | None = QUEUED
    claims: int = 0

    async def get(self, document_id: str) -> Document | None:
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    async def claim(
        self, document_id: str, owner: str, lease_ms: int, *, token: str = "", delivery: str = ""
    ) -> Document:
        self.claims += 1
        assert isinstance(self.document, Document)
        if self.document.state is not DocumentState.QUEUED:
            raise Conflict("settled")
        return replace(self.document, state=DocumentState.PROCESSING, fence=1, attempts=1)

    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        assert isinstance(self.document, Document)
        self.document = replace(
            self.document, state=DocumentState.FAILED, fence=fence, error=failure, letter="pending", attempts=1
        )
        return self.document

    async def mark_dead_letter_sent(self, document_id: str, fence: int) -> None: ...


class Progress:
    async def report(self, document_id: str, **facts: Any) -> None: ...

    async def add(self, **amounts: int) -> None: ...


@dataclass
class Setting:
    """Records whose job raises the error of the test."""

    error: BaseException
    ledger: Ledger = field(default_factory=Ledger)
    queue: Queue = field(default_factory=Queue)
    causes: list[str] = field(default_factory=list)
    limit: int = 3

    def __post_init__(self) -> None:
        outcomes = OutcomePublisher(
            ledger=cast(Any, self.ledger),
            queue=cast(Any, self.queue),
            progress=cast(Any, Progress()),
            failures=FailureRun(self.limit, self.causes.append),
            group="group",
            max_attempts=MAX_ATTEMPTS,
            retry_delays_s=DELAYS_S,
        )
        self.records = RecordRunner(self._run, cast(Any, self.ledger), cast(Any, self.queue), outcomes)

    async def _run(self, record: Record) -> None:
        raise self.error

    async def deliver(self, record: Record = RECORD) -> int:
        """Run the record and all its retries. Returns the number of runs."""
        deliveries = 0
        while deliveries < 20:
            deliveries += 1
            before = len(self.queue.retried)
            await self.records.run(record)
            if len(self.queue.retried) == before:
                break
            record = self.queue.retried[-1][0]
        return deliveries


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), KeyError("state"), MemoryError(), WorkerFault("a bug")])
async def test_an_unforeseen_error_is_retried_with_a_bound_and_then_the_document_fails(error: Exception) -> None:
    setting = Setting(error)
    assert await setting.deliver() == MAX_ATTEMPTS
    assert [delay_s for _, delay_s in setting.queue.retried] == [10, 60, 60]
    assert isinstance(setting.ledger.document, Document)
    assert setting.ledger.document.state is DocumentState.FAILED
    [letter] = setting.queue.letters
    assert (letter.document_id, letter.failure.code) == ("d", "internal")
    assert type(error).__name__ in letter.stacktrace
    assert setting.queue.announced == [setting.ledger.document]


UNREADABLE: Sequence[tuple[IngestError, Any, int, str]] = [
    (NewerRecord("quarantined"), replace(QUEUED, state=DocumentState("quarantined")), MAX_ATTEMPTS, "newer_record"),
    (BadRecord("pages is missing"), replace(QUEUED, damage="pages is missing"), 1, "bad_record"),
    (WorkerFault("mongodb: KeyError"), WorkerFault("mongodb: KeyError"), MAX_ATTEMPTS, "internal"),
    (WorkerFault("gone"), None, MAX_ATTEMPTS, "internal"),
    (WorkerFault("late"), replace(QUEUED, state=DocumentState.READY), MAX_ATTEMPTS, "internal"),
]


@pytest.mark.parametrize(("error", "document", "deliveries", "code"), UNREADABLE)
async def test_a_document_that_the_ledger_cannot_fail_is_left_alone_and_its_record_is_a_letter(
    error: IngestError, document: Any, deliveries: int, code: str
) -> None:
    setting = Setting(error, Ledger(document))
    assert await setting.deliver() == deliveries
    assert setting.ledger.document is document, "untouched"
    [letter] = setting.queue.letters
    assert (letter.failure.code, letter.delivery_count, letter.origin.offset) == (code, deliveries, 7)
    assert (letter.key, letter.value, letter.headers[0]) == (KEY, VALUE, ("traceparent", b"x"))
    assert letter.document_id == "", "a replay publishes the record without the document's record"


@pytest.mark.parametrize("error", [LeaseHeld("d", 1.0), DependencyUnavailable("s3", "down")])
async def test_errors_that_the_loop_waits_for_are_raised(error: IngestError) -> None:
    setting = Setting(error)
    with pytest.raises(type(error)):
        await setting.records.run(RECORD)
    assert setting.queue.retried == []


async def test_an_error_while_a_record_is_retried_ends_the_worker() -> None:
    setting = Setting(ZeroDivisionError("a bug"), queue=Queue(broken=TypeError("the worker's own")))
    with pytest.raises(TypeError, match="the worker's own"):
        await setting.records.run(RECORD)


async def test_a_record_that_its_retry_topic_does_not_take_is_a_dead_letter() -> None:
    setting = Setting(ZeroDivisionError("a bug"), queue=Queue(broken=MessageTooLarge("jobs-retry-10000", 2_000_000)))
    assert await setting.deliver() == 1
    [letter] = setting.queue.letters
    assert letter.failure.code == "message_too_large"
    assert (letter.key, letter.value) == (RECORD.key, RECORD.value)


async def test_a_broken_worker_still_shows_in_the_failure_run() -> None:
    setting = Setting(ZeroDivisionError("a bug"))
    for number in range(3):
        key, value, _ = encode_job(IngestJob(f"d{number}", f"c{number}", "f.pdf"))
        await setting.records.run(Record(("jobs", 1), number, key, value))
    [cause] = setting.causes
    assert "a bug" in cause


async def test_unreadable_records_say_nothing_about_the_worker() -> None:
    setting = Setting(NewerRecord("quarantined"))
    for number in range(10):
        key, value, _ = encode_job(IngestJob(f"d{number}", f"c{number}", "f.pdf"))
        await setting.records.run(Record(("jobs", 1), number, key, value))
    assert setting.causes == []
