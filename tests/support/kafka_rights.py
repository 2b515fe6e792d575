"""The ACLs of docs/security.md: what each process needs on Kafka, and no more. All need Describe on all topics."""

from __future__ import annotations

from typing import Final

from ingestion.settings import KafkaSettings
from tests.support.secured_kafka import GROUP, TOPIC, SecuredKafka

RIGHTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "api": {"{jobs}": ("Write",), "{dead letters}": ("Read",), "{events}": ("Write",), "group": ("Describe",)},
    "worker": {
        "{jobs}": ("Read",),
        "{retries}": ("Read", "Write"),
        "{dead letters}": ("Write",),
        "{events}": ("Write",),
        "group": ("Read",),
    },
    "janitor": {"{jobs}": ("Write",), "{dead letters}": ("Write",), "{events}": ("Write",)},
    "dlq": {"{jobs}": ("Write",), "{dead letters}": ("Read",)},
    "ensure": {"{all}": ("Create",)},
    "migrate": {"{all}": ("Create", "Alter", "DescribeConfigs")},
}


def named(settings: KafkaSettings, prefix: str) -> KafkaSettings:
    """The settings with names of their own for topics and group."""
    names = {"kafka_jobs_topic": f"{prefix}.jobs", "kafka_events_topic": f"{prefix}.events", "kafka_group": prefix}
    return settings.model_copy(update={**names, "retry_delays_s": (10,)})


async def allow_rights(secured: SecuredKafka, settings: KafkaSettings, process: str) -> None:
    """Give the user that is called as the process its rights on the topics of these settings."""
    topics = {
        "{jobs}": [settings.kafka_jobs_topic],
        "{retries}": list(settings.retry_topics.values()),
        "{dead letters}": [settings.dead_letter_topic],
        "{events}": [settings.kafka_events_topic],
        "{all}": settings.topics,
    }
    for topic in settings.topics:
        await secured.allow(process, TOPIC, topic, "Describe")
    for place, operations in RIGHTS[process].items():
        if place == "group":
            await secured.allow(process, GROUP, settings.kafka_group, *operations)
        for topic in topics.get(place, []):
            await secured.allow(process, TOPIC, topic, *operations)
