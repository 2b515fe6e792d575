"""Topics that are not as wanted, and the command that mends each."""

from __future__ import annotations

import pytest

from ingestion.adapters.kafka.topic_check import ExistingTopic, TopicFault, compare
from ingestion.settings import KafkaSettings

KAFKA = KafkaSettings(kafka_bootstrap="kafka:9092", kafka_partitions=10)
GOOD = {
    **{topic: ExistingTopic(10, 1, {}) for topic in KAFKA.topics},
    KAFKA.dead_letter_topic: ExistingTopic(1, 1, {"retention.ms": "-1", "retention.bytes": "-1"}),
    KAFKA.kafka_events_topic: ExistingTopic(1, 1, {"cleanup.policy": "compact"}),
}
CONFIGS = "kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics --entity-name"


def fault_of(topic: str, found: ExistingTopic, kafka: KafkaSettings = KAFKA) -> TopicFault:
    [fault] = compare(kafka, {**GOOD, topic: found})
    assert fault.topic == topic
    return fault


def test_topics_as_pagemill_creates_them_have_no_fault() -> None:
    assert compare(KAFKA, GOOD) == []


def test_a_missing_topic_is_created_by_a_command() -> None:
    existing = {topic: found for topic, found in GOOD.items() if topic != "pagemill.jobs-dlt"}
    assert compare(KAFKA, existing) == [TopicFault("pagemill.jobs-dlt", "missing", "pagemill topics ensure", True)]


def test_a_topic_that_the_broker_created_by_itself_gets_more_partitions() -> None:
    fault = fault_of("pagemill.jobs", ExistingTopic(1, 1, {}))
    assert (
        fault.remedy == "kafka-topics.sh --bootstrap-server kafka:9092 --alter --topic pagemill.jobs --partitions 10"
    )
    assert not fault.loses_records


@pytest.mark.parametrize("name", ["retention.ms", "retention.bytes"])
def test_a_dead_letter_topic_with_a_retention_loses_letters(name: str) -> None:
    fault = fault_of("pagemill.jobs-dlt", ExistingTopic(1, 1, {name: "604800000"}))
    assert fault.loses_records
    assert fault.remedy == f"{CONFIGS} pagemill.jobs-dlt --add-config {name}=-1"


def test_a_compacted_topic_loses_jobs() -> None:
    fault = fault_of("pagemill.jobs", ExistingTopic(10, 1, {"cleanup.policy": "compact,delete"}))
    assert fault.loses_records
    assert fault.remedy == f"{CONFIGS} pagemill.jobs --add-config cleanup.policy=delete"


def test_three_replicas_of_which_one_is_enough_can_lose_messages() -> None:
    fault = fault_of("pagemill.jobs", ExistingTopic(10, 3, {"min.insync.replicas": "1"}))
    assert fault.remedy == f"{CONFIGS} pagemill.jobs --add-config min.insync.replicas=2"
    assert compare(KAFKA, {**GOOD, "pagemill.jobs": ExistingTopic(10, 3, {"min.insync.replicas": "2"})}) == []


def test_fewer_replicas_than_wanted() -> None:
    kafka = KAFKA.model_copy(update={"kafka_replication": 3})
    faults = compare(kafka, GOOD)
    assert {fault.problem for fault in faults} == {"1 replicas, not 3"}
