"""Compare the topics that exist with those that Pagemill needs, and name the command that mends each difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ingestion.adapters.kafka.admin import admin_client
from ingestion.errors import DependencyUnavailable
from ingestion.settings import KafkaSettings

log = structlog.get_logger(__name__)

_CONFIGS: Final = ("retention.ms", "retention.bytes", "cleanup.policy", "min.insync.replicas")
_NO_LIMIT: Final = "-1"
_MANY_REPLICAS: Final = 3


@dataclass(frozen=True, slots=True)
class TopicFault:
    """A difference. `loses_records`: messages can be lost, or cannot be published. `remedy` is a command."""

    topic: str
    problem: str
    remedy: str
    loses_records: bool = False
    lacks_partitions: bool = False


@dataclass(frozen=True, slots=True)
class ExistingTopic:
    """`configs` is empty where this process has no right to read them."""

    partitions: int
    replicas: int
    configs: dict[str, str]


async def topic_faults(settings: KafkaSettings) -> list[TopicFault]:
    """Raises DependencyRefused, DependencyUnavailable."""
    async with admin_client(settings) as admin:
        existing = await _existing(admin, settings.topics)
    return compare(settings, existing)


async def log_topic_faults(settings: KafkaSettings) -> None:
    """Log each difference with its remedy. Topics that cannot be read are no reason not to start."""
    try:
        faults = await topic_faults(settings)
    except DependencyUnavailable as error:
        log.warning("topics not compared with the settings", cause=error.message)
        return
    for fault in faults:
        log.warning("topic is not as wanted", topic=fault.topic, cause=fault.problem, remedy=fault.remedy)


def compare(settings: KafkaSettings, existing: dict[str, ExistingTopic]) -> list[TopicFault]:
    faults = []
    for topic in settings.topics:
        if topic not in existing:
            faults.append(TopicFault(topic, "missing", "pagemill topics ensure", loses_records=True))
        else:
            faults += _faults_of(settings, topic, existing[topic])
    return faults


def _faults_of(settings: KafkaSettings, topic: str, found: ExistingTopic) -> list[TopicFault]:
    server = f"--bootstrap-server {settings.kafka_bootstrap}"
    of_topic = f"kafka-configs.sh {server} --alter --entity-type topics --entity-name {topic} --add-config"
    of_jobs = topic in (settings.kafka_jobs_topic, *settings.retry_topics.values())
    faults = []
    if of_jobs and found.partitions < settings.kafka_partitions:
        more = f"kafka-topics.sh {server} --alter --topic {topic} --partitions {settings.kafka_partitions}"
        problem = f"{found.partitions} partitions, not {settings.kafka_partitions}"
        faults.append(TopicFault(topic, problem, more, lacks_partitions=True))
    if found.replicas < settings.kafka_replication:
        problem = f"{found.replicas} replicas, not {settings.kafka_replication}"
        more = f"kafka-reassign-partitions.sh {server} --execute --reassignment-json-file FILE"
        faults.append(TopicFault(topic, problem, more))
    least = int(found.configs.get("min.insync.replicas", "1"))
    if found.replicas >= _MANY_REPLICAS and least == 1:
        problem = "min.insync.replicas=1: one broker that fails can lose acknowledged messages"
        faults.append(TopicFault(topic, problem, f"{of_topic} min.insync.replicas=2"))
    if "compact" in found.configs.get("cleanup.policy", "") and topic != settings.kafka_events_topic:
        problem = "cleanup.policy=compact: a later message deletes an earlier one of the same document"
        faults.append(TopicFault(topic, problem, f"{of_topic} cleanup.policy=delete", loses_records=True))
    if topic == settings.dead_letter_topic:
        for name in ("retention.ms", "retention.bytes"):
            if (value := found.configs.get(name, _NO_LIMIT)) != _NO_LIMIT:
                problem = f"{name}={value}: dead letters are deleted before a person has read them"
                faults.append(TopicFault(topic, problem, f"{of_topic} {name}=-1", loses_records=True))
    return faults


async def _existing(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, ExistingTopic]:
    # All topics: a request for one by its name would create it.
    described = {one["topic"]: one["partitions"] for one in await admin.describe_topics() if one["topic"] in topics}
    configs = await _configs(admin, sorted(described)) if described else {}
    return {
        topic: ExistingTopic(
            len(partitions),
            min(len(one["replicas"]) for one in partitions) if partitions else 0,
            configs.get(topic, {}),
        )
        for topic, partitions in described.items()
    }


async def _configs(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    names = dict.fromkeys(_CONFIGS)
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic, configs=names) for topic in topics]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for resource in answer.to_object()["resources"]:
            entries: list[Any] = resource["config_entries"] or []
            found[resource["resource_name"]] = {one["config_names"]: one["config_value"] for one in entries}
    return found
