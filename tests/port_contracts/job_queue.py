"""Job queue: what is on which topic after each call."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias

import pytest

from ingestion import dead_letters
from ingestion.dead_letters import DeadLetter
from ingestion.messages import Origin, Record, decode_job, encode_job, retry_headers
from ingestion.model import IngestJob
from ingestion.ports import JobQueue
from ingestion.settings import KafkaSettings
from tests.support.documents import FAILURE, document

ReadTopic: TypeAlias = Callable[[str], Awaitable[list[Record]]]
"""All records that are on a topic now, oldest first within a partition."""

JOB = IngestJob("document-1", "c", "a ü.pdf", pages=3)


def record_of(job: IngestJob = JOB, extra: tuple[tuple[str, bytes], ...] = ()) -> Record:
    key, value, headers = encode_job(job)
    return Record(("elsewhere.jobs", 4), 17, key, value, (*headers, *extra))


def letter_of(record: Record) -> DeadLetter:
    return DeadLetter(
        id="letter-1",
        key=record.key,
        value=record.value,
        headers=record.headers,
        origin=record.origin,
        group="g",
        delivery_count=5,
        failure=FAILURE,
        exception_class="ingestion.errors.CorruptPdf",
        stacktrace="line 1\nline 2 «ü»",
        timestamp=datetime(2026, 11, 28, 9, 0, 0, 123_000, UTC),
        document_id=JOB.document_id,
        fence=7,
    )


class JobQueueContract:
    """Needs the fixtures `queue`, `kafka` (its settings) and `read_topic`."""

    async def test_a_broker_that_answers_is_up(self, queue: JobQueue) -> None:
        await queue.ping()

    async def test_jobs_of_a_document_stay_in_order_on_one_partition(
        self, queue: JobQueue, kafka: KafkaSettings, read_topic: ReadTopic
    ) -> None:
        later = replace(JOB, filename="b.pdf")
        for job in (JOB, later, JOB):
            await queue.publish(job)
        records = await read_topic(kafka.kafka_jobs_topic)
        assert [decode_job(record.value) for record in records] == [JOB, later, JOB]
        assert {record.key for record in records} == {b"document-1"}
        assert len({record.partition for record in records}) == 1
        assert {record.partition[0] for record in records} == {kafka.kafka_jobs_topic}
        assert [record.offset for record in records] == sorted({record.offset for record in records})

    async def test_a_retry_waits_on_its_topic_and_keeps_its_bytes_and_its_origin(
        self, queue: JobQueue, kafka: KafkaSettings, read_topic: ReadTopic
    ) -> None:
        first = record_of(extra=(("trace", b"\x00\xff"),)).failed_again()
        await queue.retry(first, 60)
        [waiting] = await read_topic(kafka.retry_topics[60])
        assert (waiting.key, waiting.value) == (first.key, first.value)
        assert waiting.headers[: len(first.headers)] == first.headers
        assert waiting.origin == Origin("elsewhere.jobs", 4, 17)
        assert waiting.deliveries_failed == 1
        assert 0 < waiting.due_in_s < 61
        await queue.retry(waiting, 10)
        [again] = await read_topic(kafka.retry_topics[10])
        assert (again.key, again.value, again.origin) == (first.key, first.value, waiting.origin)
        assert 0 < again.due_in_s < 11
        assert await read_topic(kafka.kafka_jobs_topic) == []

    @pytest.mark.parametrize(("key", "value"), [(None, b"\x00\xff no job"), (b"k", None)])
    async def test_a_record_that_is_no_job_keeps_what_it_has(
        self, queue: JobQueue, kafka: KafkaSettings, read_topic: ReadTopic, key: bytes | None, value: bytes | None
    ) -> None:
        foreign = replace(record_of(), key=key, value=value, headers=())
        await queue.retry(foreign, 10)
        await queue.publish_dead_letter(letter_of(foreign))
        for topic in (kafka.retry_topics[10], kafka.dead_letter_topic):
            [found] = await read_topic(topic)
            assert (found.key, found.value) == (key, value)

    async def test_a_dead_letter_is_read_as_it_was_published(
        self, queue: JobQueue, kafka: KafkaSettings, read_topic: ReadTopic
    ) -> None:
        letter = letter_of(record_of(extra=(("trace", b"1"),)))
        await queue.publish_dead_letter(letter)
        [found] = await read_topic(kafka.dead_letter_topic)
        assert dead_letters.decode(found) == letter

    async def test_a_replay_is_the_record_as_it_first_came(
        self, queue: JobQueue, kafka: KafkaSettings, read_topic: ReadTopic
    ) -> None:
        first = record_of(extra=(("trace", b"1"),))
        retried = replace(first, headers=tuple(retry_headers(first.failed_again(), 1000)))
        await queue.replay(letter_of(retried))
        [found] = await read_topic(kafka.kafka_jobs_topic)
        assert (found.key, found.value, found.headers) == (first.key, first.value, first.headers)
        assert await read_topic(kafka.dead_letter_topic) == []

    async def test_an_event_tells_the_state_of_its_document(
        self, queue: JobQueue, kafka: KafkaSettings, read_topic: ReadTopic
    ) -> None:
        await queue.announce(document())
        [found] = await read_topic(kafka.kafka_events_topic)
        assert found.value is not None
        told = json.loads(found.value)
        assert found.key == b"d1"
        assert (told["document_id"], told["state"], told["filename"]) == ("d1", "received", document().filename)
