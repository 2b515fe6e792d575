"""Connections that the broker closes because a login has run out: aiokafka does not log in again on an open one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.logs import _is_worth_a_line
from ingestion.messages import Partition
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings
from tests.support.broker_processes import Broker, add_logins
from tests.support.ports import free_port

LOGIN_MS = 2_000
JOBS = 30


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    broker, port = Broker(tmp_path / "broker"), free_port()
    add_logins(broker, port, pagemill="secret")
    broker.properties |= {"connections.max.reauth.ms": str(LOGIN_MS)}
    broker.start()
    try:
        await broker.ready()
        kafka = KafkaSettings(
            kafka_bootstrap=f"127.0.0.1:{port}",
            kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_mechanism="PLAIN",
            kafka_sasl_username="pagemill",
            kafka_sasl_password="secret",
            kafka_partitions=2,
            retry_delays_s=(10,),
        )
        await ensure_topics(kafka)
        yield kafka
    finally:
        broker.kill()


async def ignore(partitions: set[Partition]) -> None:
    pass


async def test_a_login_that_runs_out_costs_neither_an_error_nor_a_job(
    kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    consumer, found = JobConsumer(kafka, "one"), list[str]()
    await consumer.start(ignore, ignore)
    try:
        async with asyncio.timeout(60), KafkaJobQueue(kafka) as queue:
            caplog.set_level(logging.WARNING)
            for number in range(JOBS):
                await queue.publish(IngestJob(str(number), "c", "a.pdf"))
                await queue.ping()
                await asyncio.sleep(0.25)  # the logins of all connections run out several times
                records = await consumer.poll(10, 300)
                found += [record.job.document_id for record in records]
                await consumer.commit({record.partition: record.offset + 1 for record in records})
            while len(set(found)) < JOBS:
                found += [record.job.document_id for record in await consumer.poll(10, 300)]
    finally:
        await consumer.stop()
    assert sorted(found, key=int) == [str(number) for number in range(JOBS)], "each once"
    closed = [record for record in caplog.records if "closed" in record.getMessage()]
    assert closed, "no login ran out"
    assert not [record for record in closed if _is_worth_a_line(record)]
