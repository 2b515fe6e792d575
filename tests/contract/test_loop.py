"""The worker's job loop on a real broker, with jobs that the test controls."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.dead_letters import KafkaDeadLetters
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis.progress import RedisProgress
from ingestion.dead_letters import DeadLetter
from ingestion.errors import DependencyUnavailable, LeaseHeld, WorkerFault
from ingestion.messages import Record, decode_job, encode_job
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings, Settings
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import FailureRun
from workers.consumer.capacity import WeightedLimiter
from workers.consumer.loop import JobLoop
from workers.consumer.record_runner import RecordRunner
from workers.runtime.breaker import Breakers

pytestmark = pytest.mark.each_broker

DEADLINE_S = 40.0
LONG = 100
"""Pages of a document that takes a whole place."""


@pytest.fixture
async def kafka(settings: Settings) -> KafkaSettings:
    kafka = settings.kafka.model_copy(update={"kafka_partitions": 2})
    await ensure_topics(kafka)
    return kafka


@pytest.fixture
async def queue(kafka: KafkaSettings) -> AsyncIterator[KafkaJobQueue]:
    async with KafkaJobQueue(kafka) as queue:
        yield queue


class Jobs:
    """Counts the jobs that run. A job whose id is in `held` ends only after the test releases it."""

    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.running = 0
        self.most_running = 0
        self.held: dict[str, asyncio.Event] = {}
        self.errors: dict[str, list[Exception]] = {}

    async def run(self, record: Record) -> None:
        name = decode_job(record.value).document_id
        self.started[name] += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0.01)
            if name in self.held:
                await self.held[name].wait()
            if self.errors.get(name):
                raise self.errors[name].pop(0)
            self.finished[name] += 1
        finally:
            self.running -= 1


@asynccontextmanager
async def working(
    kafka: KafkaSettings,
    run: Callable[[Record], Awaitable[None]],
    *,
    jobs_in_flight: int = 4,
    max_ahead: int = 1000,
    drain_s: float = 10.0,
    breakers: Breakers | None = None,
) -> AsyncIterator[JobLoop]:
    breakers = breakers or Breakers({})
    loop = JobLoop(
        JobConsumer(kafka, "worker"),
        run,
        breakers,
        jobs_in_flight=jobs_in_flight,
        max_ahead=max_ahead,
        drain_s=drain_s,
    )
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.stop()
        await task
        await breakers.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def publish(queue: KafkaJobQueue, *names: str, pages: int = LONG) -> None:
    for name in names:
        await queue.publish(IngestJob(name, "c", "f.pdf", pages))


async def test_jobs_run_side_by_side_up_to_the_limit_which_exceeds_the_partitions(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    names = [f"d{number}" for number in range(30)]
    await publish(queue, *names)
    jobs = Jobs()
    async with working(kafka, jobs.run, jobs_in_flight=5):
        await until(lambda: sum(jobs.finished.values()) == 30)
    assert jobs.started == Counter(names)
    assert jobs.most_running == 5


async def test_more_jobs_run_side_by_side_where_their_documents_are_short(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    await publish(queue, *(f"d{number}" for number in range(20)), pages=2)
    jobs = Jobs()
    async with working(kafka, jobs.run, jobs_in_flight=1):
        await until(lambda: sum(jobs.finished.values()) == 20)
    assert jobs.most_running == WeightedLimiter(1).max_documents == 4


async def test_a_job_that_does_not_end_holds_back_the_commit_and_no_other_job(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    jobs = Jobs()
    jobs.held["stuck"] = asyncio.Event()
    await publish(queue, "stuck")
    names = [f"d{number}" for number in range(12)]
    await publish(queue, *names)
    async with working(kafka, jobs.run, drain_s=0.1):
        await until(lambda: sum(jobs.finished.values()) == 12)
    assert "stuck" not in jobs.finished
    again = Jobs()
    async with working(kafka, again.run):
        await until(lambda: "stuck" in again.finished)
    assert set(again.started) < {"stuck", *names}, "the other partition's offsets were committed"


async def test_jobs_finished_before_a_stop_are_not_started_again(kafka: KafkaSettings, queue: KafkaJobQueue) -> None:
    await publish(queue, "a", "b", "c")
    first = Jobs()
    async with working(kafka, first.run):
        await until(lambda: len(first.finished) == 3)
    await publish(queue, "d")
    second = Jobs()
    async with working(kafka, second.run):
        await until(lambda: "d" in second.finished)
    assert second.started == Counter(["d"])


async def test_stopping_waits_for_what_was_begun(kafka: KafkaSettings, queue: KafkaJobQueue) -> None:
    jobs = Jobs()
    jobs.held["slow"] = asyncio.Event()
    await publish(queue, "slow")
    async with working(kafka, jobs.run) as loop:
        await until(lambda: "slow" in jobs.started)
        loop.stop()
        jobs.held["slow"].set()
    assert jobs.finished["slow"] == 1


async def test_an_outage_and_anothers_lease_are_waited_out(
    kafka: KafkaSettings, queue: KafkaJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runtime.breaker._FIRST_PAUSE_S", 0.01)
    jobs = Jobs()
    jobs.errors["d"] = [
        DependencyUnavailable("milvus", "down"),
        LeaseHeld("d", 0.01),
        DependencyUnavailable("s3", "down"),
    ]
    await publish(queue, "d")
    async with working(kafka, jobs.run):
        await until(lambda: "d" in jobs.finished)
    assert jobs.started["d"] == 4


async def test_an_unforeseen_error_stops_the_worker_and_its_job_comes_again(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    jobs = Jobs()
    jobs.errors["d"] = [ZeroDivisionError("a bug")]
    await publish(queue, "d")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        async with working(kafka, jobs.run):
            await until(lambda: not jobs.errors["d"])
    async with working(kafka, jobs.run):
        await until(lambda: "d" in jobs.finished)


async def test_a_job_longer_than_the_poll_interval_is_run_once(kafka: KafkaSettings, queue: KafkaJobQueue) -> None:
    strict = kafka.model_copy(update={"kafka_max_poll_interval_ms": 1000, "kafka_session_timeout_ms": 6000})
    jobs = Jobs()
    jobs.held["long"] = asyncio.Event()
    await publish(queue, "long")
    async with working(strict, jobs.run, jobs_in_flight=1):
        await until(lambda: "long" in jobs.started)
        asyncio.get_running_loop().call_later(3.0, jobs.held["long"].set)
        await until(lambda: "long" in jobs.finished)
        await publish(queue, "next")
        await until(lambda: "next" in jobs.finished)
    assert jobs.started == Counter(["long", "next"])


async def test_a_retry_waits_for_its_time_without_taking_a_place(kafka: KafkaSettings, queue: KafkaJobQueue) -> None:
    soon = kafka.model_copy(update={"retry_delays_s": (2,)})
    await ensure_topics(soon)
    jobs = Jobs()
    started_at: dict[str, float] = {}

    async def run(record: Record) -> None:
        started_at[decode_job(record.value).document_id] = time.time()
        await jobs.run(record)

    async with KafkaJobQueue(soon) as retrying, working(soon, run, jobs_in_flight=1) as loop:
        await until(lambda: loop.is_member)  # otherwise the retries may be due before the first read
        due_at = time.time() + 2
        for name in ("a", "b", "c"):
            key, value, headers = encode_job(IngestJob(name, "c", "f.pdf"))
            await retrying.retry(Record(("jobs", 0), 1, key, value, tuple(headers)), 2)
        await publish(queue, "d", "e")
        await until(lambda: len(jobs.finished) == 5)
    assert max(started_at["d"], started_at["e"]) < min(started_at[name] for name in "abc"), "none held the place"
    assert all(started_at[name] >= due_at - 0.01 for name in "abc")


async def test_while_a_server_is_down_nothing_is_begun_and_then_it_goes_on(
    kafka: KafkaSettings, queue: KafkaJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runtime.breaker._FIRST_PAUSE_S", 0.05)
    pings = 0
    up = asyncio.Event()

    async def ping() -> None:
        nonlocal pings
        pings += 1
        if not up.is_set():
            raise DependencyUnavailable("milvus", "down")

    breakers = Breakers({"milvus": ping})
    jobs = Jobs()
    async with working(kafka, jobs.run, breakers=breakers) as loop:
        await until(lambda: loop.is_member)
        breakers.trip(DependencyUnavailable("milvus", "down"))
        await publish(queue, "a", "b")
        await until(lambda: pings >= 5)
        assert not jobs.started
        [outage] = breakers.outages
        assert (outage.dependency, outage.cause) == ("milvus", "milvus is unavailable: down")
        up.set()
        await until(lambda: len(jobs.finished) == 2)
    assert breakers.outages == []
    assert jobs.started == Counter("ab")


async def test_reading_stops_when_it_is_far_ahead_of_what_is_unfinished(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    one = kafka.model_copy(update={"kafka_jobs_topic": f"{kafka.kafka_jobs_topic}-one", "kafka_partitions": 1})
    await ensure_topics(one)
    jobs = Jobs()
    jobs.held["stuck"] = asyncio.Event()
    async with KafkaJobQueue(one) as to_one, working(one, jobs.run, jobs_in_flight=3, max_ahead=10) as loop:
        await publish(to_one, "stuck", *(f"d{number}" for number in range(40)))
        await until(lambda: len(jobs.finished) >= 9)
        then = loop.polled_at
        await until(lambda: loop.polled_at > then + 1.0)
        assert len(jobs.finished) < 9 + 10, "a poll that was under way may bring a few more"
        jobs.held["stuck"].set()
        await until(lambda: len(jobs.finished) == 41)


async def test_a_free_place_is_taken_at_once_by_a_job_that_has_been_read_already(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    names = [f"d{number}" for number in range(6)]
    jobs, consumer = Jobs(), Deaf(kafka, "worker")
    jobs.held = {name: asyncio.Event() for name in names}
    await publish(queue, *names)
    loop = JobLoop(consumer, jobs.run, Breakers({}), jobs_in_flight=2, max_ahead=1000, drain_s=DEADLINE_S)
    task = asyncio.create_task(loop.run())
    await until(lambda: len(consumer.read) == 6)
    consumer.is_deaf = True
    for event in jobs.held.values():
        event.set()
    await until(lambda: len(jobs.finished) == 6)
    assert jobs.most_running == 2
    loop.stop()
    await task


async def test_queued_jobs_are_not_started_after_a_stop(kafka: KafkaSettings, queue: KafkaJobQueue) -> None:
    jobs, consumer = Jobs(), Deaf(kafka, "worker")
    names = ["first", "second"]
    jobs.held = {name: asyncio.Event() for name in names}
    await publish(queue, *names)
    loop = JobLoop(consumer, jobs.run, Breakers({}), jobs_in_flight=1, max_ahead=1000, drain_s=DEADLINE_S)
    task = asyncio.create_task(loop.run())
    await until(lambda: len(consumer.read) == 2 and jobs.running == 1)
    loop.stop()
    for event in jobs.held.values():
        event.set()
    await task
    assert sum(jobs.started.values()) == 1
    async with working(kafka, jobs.run):
        await until(lambda: len(jobs.finished) == 2)
    assert sum(jobs.started.values()) == 2


class Deaf(JobConsumer):
    """Counts the records that it reads, and reads no more after a given moment."""

    is_deaf = False

    def __init__(self, kafka: KafkaSettings, member: str) -> None:
        super().__init__(kafka, member)
        self.read: list[Record] = []

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        if self.is_deaf:
            await asyncio.sleep(timeout_ms / 1000)
            return []
        records = await super().poll(max_records, timeout_ms)
        self.read += records
        return records


class Expelled(JobConsumer):
    """A member that has left its group for ever after a given moment."""

    is_out = False

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        if self.is_out:
            raise WorkerFault("no longer in the group")
        return await super().poll(max_records, timeout_ms)


async def test_an_expelled_worker_finishes_its_jobs_and_ends_with_the_fault(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    await publish(queue, "begun")
    jobs, consumer = Jobs(), Expelled(kafka, "worker")
    jobs.held["begun"] = asyncio.Event()
    loop = JobLoop(consumer, jobs.run, Breakers({}), jobs_in_flight=4, max_ahead=1000, drain_s=DEADLINE_S)
    task = asyncio.create_task(loop.run())
    await until(lambda: jobs.running == 1)
    consumer.is_out = True
    await asyncio.wait([task], timeout=1.0)
    assert not task.done()
    jobs.held["begun"].set()
    with pytest.raises(WorkerFault, match="no longer in the group"):
        async with asyncio.timeout(DEADLINE_S):
            await task
    assert jobs.finished["begun"] == 1


async def test_an_unforeseen_error_of_a_job_makes_a_dead_letter_and_the_worker_continues(
    kafka: KafkaSettings, settings: Settings, document_store: MongoDocumentStore
) -> None:
    soon = kafka.model_copy(update={"retry_delays_s": (1,)})
    await ensure_topics(soon)
    jobs = Jobs()
    jobs.errors["poison"] = [KeyError("state")] * 10
    async with KafkaJobQueue(soon) as queue, RedisProgress(settings.redis) as progress:
        await publish(queue, "poison", "a", "b")
        outcomes = OutcomePublisher(
            document_store, queue, progress, FailureRun(10, lambda cause: None), "group", 3, (1,)
        )
        records = RecordRunner(jobs.run, document_store, queue, outcomes)
        letters: list[DeadLetter] = []
        async with working(soon, records.run) as loop:
            await until(lambda: jobs.started["poison"] == 3 and loop.is_idle)
            await publish(queue, "c")
            await until(lambda: len(jobs.finished) == 3)
        letters += [letter async for letter in KafkaDeadLetters(soon).read()]
    assert jobs.started["poison"] == 3
    [letter] = letters
    assert (letter.delivery_count, letter.failure.code) == (3, "internal")
    assert "KeyError" in letter.stacktrace
