"""The janitor finishes the work that crashes and outages leave half done. Real calls that stop half-way make it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.bootstrap import Services
from ingestion.dead_letters import DeadLetter
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.messages import decode_job
from ingestion.model import Document, IngestJob, StaleKind, document_prefix
from ingestion.removal import Remover
from tests.support.documents import FAILURE, LEASE_MS, S, document, expired, in_state
from workers.janitor import Repeated
from workers.recovery import Janitor
from workers.wiring import canceller_of

HOURS_S = 3600.0
DEADLINE_S = 30.0


def janitor(services: Services, *, queue: Any = None, grace_s: float = 0.0, lost_after_s: float = HOURS_S) -> Janitor:
    queue = queue or services.queue
    return Janitor(
        records=services.documents,
        queue=queue,
        remover=Remover(services.documents, services.vectors, services.blobs, queue, services.progress),
        canceller=canceller_of(services),
        group=services.settings.kafka.kafka_group,
        grace_s=grace_s,
        lost_after_s=lost_after_s,
    )


async def published(services: Services) -> Counter[str]:
    """How often each document's job is on the topic."""
    kafka = services.settings.kafka
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(kafka.kafka_jobs_topic, number) for number in range(kafka.kafka_partitions)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        jobs: Counter[str] = Counter()
        async with asyncio.timeout(DEADLINE_S):
            while jobs.total() < sum(ends.values()):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    jobs.update(decode_job(record.value).document_id for record in records)
        return jobs
    finally:
        await consumer.stop()


async def letters(services: Services) -> list[DeadLetter]:
    return [letter async for letter in services.dead_letters.read()]


async def read(services: Services, id_: str = "d1") -> Document:
    found = await services.documents.get(id_)
    assert found is not None
    return found


async def assert_nothing_is_left(services: Services) -> None:
    done = await janitor(services).round()
    assert (done.repaired, done.failed) == (Counter(), [])


async def test_a_job_that_was_stored_and_not_published_is_published_once(services: Services) -> None:
    await services.documents.insert(document())
    done = await janitor(services).round()
    assert done.repaired == {StaleKind.UNPUBLISHED: 1}
    found = await read(services)
    assert (found.state, found.outbox) == (S.QUEUED, "sent")
    await assert_nothing_is_left(services)
    assert await published(services) == {"d1": 1}


async def test_a_requeued_document_that_was_not_published_is_published(services: Services) -> None:
    await in_state(services.documents, S.FAILED)
    await services.documents.requeue("d1")
    assert (await janitor(services).round()).repaired == {StaleKind.UNPUBLISHED: 1}
    await assert_nothing_is_left(services)
    assert await published(services) == {"d1": 1}


async def test_documents_within_the_grace_time_are_not_repaired(services: Services) -> None:
    await services.documents.insert(document("d1"))
    await expired(services.documents, "d2")
    await in_state(services.documents, S.FAILED, "d3")
    await in_state(services.documents, S.DELETING, "d4")
    assert (await janitor(services, grace_s=HOURS_S).round()).repaired == Counter()
    assert [(await read(services, f"d{n}")).state for n in (1, 2, 3, 4)] == [
        S.RECEIVED,
        S.PROCESSING,
        S.FAILED,
        S.DELETING,
    ]


async def test_with_a_collection_the_others_are_left_alone(services: Services) -> None:
    await services.documents.insert(document("d1", "c"))
    await services.documents.insert(document("d2", "other"))
    await janitor(services).round("c")
    assert [(await read(services, id_)).state for id_ in ("d1", "d2")] == [S.QUEUED, S.RECEIVED]


async def test_a_document_of_a_dead_worker_is_freed_and_published(services: Services) -> None:
    dead = await expired(services.documents)
    assert (await janitor(services).round()).repaired[StaleKind.ABANDONED] == 1
    freed = await read(services)
    assert (freed.state, freed.outbox, freed.attempts, freed.fence) == (S.QUEUED, "sent", 1, dead.fence)
    await assert_nothing_is_left(services)
    assert await published(services) == {"d1": 1}


async def test_a_document_with_a_running_lease_stays_with_its_worker(services: Services) -> None:
    claimed = await in_state(services.documents, S.PROCESSING)
    await assert_nothing_is_left(services)
    assert await read(services) == claimed


async def test_a_document_that_waits_for_a_retry_is_not_lost(services: Services) -> None:
    claimed = await in_state(services.documents, S.PROCESSING)
    await services.documents.mark_queued(claimed)
    await services.documents.postpone("d1", claimed.fence, FAILURE, delay_ms=LEASE_MS)
    assert (await janitor(services, lost_after_s=0).round()).repaired == Counter()
    assert await published(services) == Counter()


async def test_a_job_that_the_broker_has_lost_is_published_again(services: Services) -> None:
    await in_state(services.documents, S.QUEUED)
    await assert_nothing_is_left(services)
    assert (await janitor(services, lost_after_s=0).round()).repaired == {StaleKind.LOST: 1}
    assert await published(services) == {"d1": 1}


async def test_a_failed_document_without_a_letter_gets_one(services: Services) -> None:
    failed = await in_state(services.documents, S.FAILED)
    assert (await janitor(services).round()).repaired == {StaleKind.DEAD_LETTER_PENDING: 1}
    assert (await read(services)).letter == "sent"
    await assert_nothing_is_left(services)
    [letter] = await letters(services)
    assert (letter.document_id, letter.fence, letter.delivery_count) == ("d1", failed.fence, 1)
    assert letter.failure == FAILURE
    assert letter.group == services.settings.kafka.kafka_group
    assert letter.job == IngestJob.of(failed)


async def test_a_delete_that_stopped_half_way_is_finished(services: Services) -> None:
    await in_state(services.documents, S.DELETING)
    await services.blobs.put("documents/d1/source.pdf", b"%PDF-", "application/pdf")
    assert (await janitor(services).round()).repaired == {StaleKind.HALF_DELETED: 1}
    assert await services.documents.get("d1") is None
    assert await services.blobs.list_keys(document_prefix("d1")) == []
    await assert_nothing_is_left(services)


async def test_janitors_side_by_side_do_no_harm(services: Services) -> None:
    for number in range(5):
        await services.documents.insert(document(f"received-{number}"))
        await expired(services.documents, f"abandoned-{number}")
        await in_state(services.documents, S.FAILED, f"failed-{number}")
        await in_state(services.documents, S.DELETING, f"deleting-{number}")
    await asyncio.gather(*(janitor(services).round() for _ in range(3)))
    found = {document.id: (document.state, document.outbox) for document in await services.documents.list()}
    assert found == {
        **{f"{kind}-{number}": (S.QUEUED, "sent") for kind in ("received", "abandoned") for number in range(5)},
        **{f"failed-{number}": (S.FAILED, "pending") for number in range(5)},
    }
    assert (await published(services)).keys() == {id_ for id_, (state, _) in found.items() if state is S.QUEUED}
    assert sorted(letter.document_id for letter in await letters(services)) == [f"failed-{n}" for n in range(5)]
    await assert_nothing_is_left(services)


@dataclass
class Picky:
    """The queue, except that it takes no job of the document `refused`."""

    queue: Any
    refused: str

    async def publish(self, job: IngestJob) -> None:
        if job.document_id == self.refused:
            raise WorkerFault("kafka: refused")
        await self.queue.publish(job)


async def test_a_document_that_cannot_be_repaired_stops_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.recovery._DOCUMENTS_AT_ONCE", 1)
    for number in (1, 2, 3):
        await services.documents.insert(document(f"d{number}"))
    done = await janitor(services, queue=Picky(services.queue, "d1")).round()
    assert (done.repaired, done.failed) == ({StaleKind.UNPUBLISHED: 2}, ["d1"])
    assert (await read(services, "d1")).outbox == "pending"


async def test_an_outage_ends_the_round_and_the_next_one_goes_on(services: Services, unused_tcp_port: int) -> None:
    await services.documents.insert(document())
    nowhere = services.settings.kafka.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{unused_tcp_port}"})
    async with KafkaJobQueue(nowhere) as unreachable:
        with pytest.raises(DependencyUnavailable, match="kafka"):
            await janitor(services, queue=unreachable).round()
    assert (await read(services)).outbox == "pending"
    assert (await janitor(services).round()).repaired == {StaleKind.UNPUBLISHED: 1}


async def test_a_repeated_round_continues_after_an_outage_and_logs_it() -> None:
    outages = []

    async def work() -> None:
        outages.append(repeated.outage and repeated.outage.dependency)
        if len(outages) < 3:
            raise DependencyUnavailable("kafka", "refused")
        if len(outages) == 5:
            raise WorkerFault("odd")
        if len(outages) == 7:
            raise asyncio.CancelledError

    repeated = Repeated(work, every_s=0.001, again_s=0.001)
    with pytest.raises(asyncio.CancelledError):
        await repeated.run()
    assert outages == [None, "kafka", "kafka", None, None, None, None]


async def test_the_janitor_repairs_reports_its_health_and_stops_at_sigterm(
    services: Services, unused_tcp_port: int
) -> None:
    await services.documents.insert(replace(document(), filename="a.pdf"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.cli", "serve", "janitor"),
        env={
            **os.environ,
            "PAGEMILL_JANITOR_GRACE_S": "0.1",
            "PAGEMILL_JANITOR_EVERY_S": "0.1",
            "PAGEMILL_JANITOR_AUDIT_EVERY_S": "0.1",
            "PAGEMILL_WORKER_METRICS_PORT": str(unused_tcp_port),
        },
    )
    try:
        async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient() as client:
            while (await read(services)).outbox != "sent":
                await asyncio.sleep(0.05)
            base = f"http://127.0.0.1:{unused_tcp_port}"
            assert (await client.get(f"{base}/ready")).json() == {"status": "ok", "outages": []}
            while "ingestion_audit_findings{" not in (text := (await client.get(f"{base}/metrics")).text):
                await asyncio.sleep(0.05)
            assert 'ingestion_repairs_total{kind="unpublished"} 1.0' in text
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
