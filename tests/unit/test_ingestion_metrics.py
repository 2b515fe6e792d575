"""What an attempt, a queue, a breaker and a request to a store leave in the metrics."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from ingestion.adapters.threads import Threads
from ingestion.errors import CorruptPdf, WorkerFault
from ingestion.messages import HEADER_DUE_MS, Record
from ingestion.model import Document, DocumentState
from tests.support.memory_worker import MemoryWorker, job
from workers.attempt import outcomes
from workers.consumer import watermark
from workers.consumer.watermark import Watermarks
from workers.runtime.breaker import Breakers

PARTITION = ("jobs", 0)


class Growth:
    """By how much series have grown since this object was made."""

    def __init__(self) -> None:
        self._before: dict[Any, float] = {}
        for family in REGISTRY.collect():
            for sample in family.samples:
                self._before[sample.name, frozenset(sample.labels.items())] = sample.value

    def of(self, name: str, **labels: str) -> float:
        return (REGISTRY.get_sample_value(name, labels) or 0.0) - self._before.get(
            (name, frozenset(labels.items())), 0.0
        )


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> MemoryWorker:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    return MemoryWorker()


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "success"), (CorruptPdf("broken"), "failed"), (WorkerFault("a bug"), "retried")],
)
async def test_attempts_are_counted_by_outcome(worker: MemoryWorker, error: Exception | None, status: str) -> None:
    worker.embedder.error = error
    growth = Growth()
    await worker.pipeline.run(job(await worker.uploaded()))
    grown = {one: growth.of("ingestion_files_total", status=one) for one in ("success", "failed", "retried")}
    assert grown == {"success": 0, "failed": 0, "retried": 0} | {status: 1}
    assert growth.of("ingestion_duration_seconds_count", status=status) == 1
    assert growth.of("ingestion_upload_to_ready_seconds_count") == (status == "success")


def test_the_time_to_ready_counts_from_the_last_replay() -> None:
    uploaded = datetime.now(UTC) - timedelta(days=3)
    replayed = datetime.now(UTC) - timedelta(seconds=20)
    document = Document("d", "c", "f", "k", "0" * 64, 1, pages=1, first_page_key=1, created_at=uploaded)
    growth = Growth()
    outcomes._observe_readiness(replace(document, state=DocumentState.READY, requeued_at=replayed))
    assert growth.of("ingestion_upload_to_ready_seconds_sum") == pytest.approx(20, abs=5)
    outcomes._observe_readiness(document)
    assert growth.of("ingestion_upload_to_ready_seconds_sum") == pytest.approx(3 * 86_400, abs=60)


def published(seconds_ago: float, *, due_in_s: float | None = None) -> Record:
    now_ms = round(time.time() * 1000)
    headers = () if due_in_s is None else ((HEADER_DUE_MS, str(now_ms + round(due_in_s * 1000)).encode()),)
    return Record(PARTITION, 7, b"k", b"v", headers, timestamp_ms=now_ms - round(seconds_ago * 1000))


def test_a_job_has_waited_since_it_was_published_and_a_retry_since_it_was_due() -> None:
    assert published(30).waited_s == pytest.approx(30, abs=5)
    assert published(90, due_in_s=-30).waited_s == pytest.approx(30, abs=5)
    assert published(30, due_in_s=60).waited_s == 0
    assert Record(PARTITION, 7, b"k", b"v").waited_s is None


@given(st.none() | st.binary() | st.just(b"9" * 400) | st.integers().map(lambda number: str(number).encode()))
def test_no_header_makes_the_wait_of_a_job_fail(due: Any) -> None:
    waited_s = Record(PARTITION, 7, None, None, ((HEADER_DUE_MS, due),), timestamp_ms=1).waited_s
    assert waited_s is not None
    assert waited_s >= 0


def test_the_watermark_is_as_old_as_the_oldest_unfinished_record(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(watermark.time, "monotonic", lambda: now_s)
    watermarks = Watermarks()
    assert watermarks.age_s(PARTITION) == 0
    watermarks.assign([PARTITION])
    assert watermarks.age_s(PARTITION) == 0
    first = watermarks.begin(PARTITION, 5)
    now_s += 10
    second = watermarks.begin(PARTITION, 6)
    now_s += 5
    assert watermarks.age_s(PARTITION) == 15
    watermarks.finish(first)
    assert watermarks.age_s(PARTITION) == 5
    watermarks.finish(second)
    assert watermarks.age_s(PARTITION) == 0


async def test_a_breaker_has_a_series_before_its_first_outage() -> None:
    async def ping() -> None: ...

    Breakers({"a server of this test": ping}, proofs={"another of this test": ping})
    for name in ("a server of this test", "another of this test"):
        assert REGISTRY.get_sample_value("ingestion_breaker_open", {"dependency": name}) == 0


async def test_requests_are_measured_by_store_and_operation_also_if_they_fail() -> None:
    growth = Growth()
    threads = Threads(1, stage="test", dependency="a store of this test")
    await threads.read(lambda: 1, "get")
    with pytest.raises(ZeroDivisionError):
        await threads.write(lambda: 1 // 0, "put")
    for operation in ("get", "put"):
        labels = {"store": "a store of this test", "operation": operation}
        assert growth.of("store_request_duration_seconds_count", **labels) == 1
