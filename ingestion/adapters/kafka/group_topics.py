"""Which topics the workers' consumer group reads, as its coordinator says."""

from __future__ import annotations

from typing import Any, Final

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code

from ingestion.adapters.kafka.admin import admin_client
from ingestion.settings import KafkaSettings

_STABLE: Final = "Stable"


async def unassigned_topics(settings: KafkaSettings) -> set[str] | None:
    """Return the topics of jobs and retries that nothing reads: no member of the group has a partition of them.

    Returns None while the group has no members or distributes its partitions: its topics are not known then. Raises
    DependencyRefused, DependencyUnavailable.
    """
    async with admin_client(settings) as admin:
        [answer] = await admin.describe_consumer_groups([settings.kafka_group])
        [group] = answer.to_object()["groups"]
        if code := group["error_code"]:
            raise for_code(code)(f"group {settings.kafka_group}")
    if group["state"] != _STABLE:
        return None
    wanted = {settings.kafka_jobs_topic, *settings.retry_topics.values()}
    return wanted - {topic for member in group["members"] for topic in _topics(member)}


def _topics(member: dict[str, Any]) -> set[str]:
    encoded = member["member_assignment"]
    if not encoded:
        return set()
    return {topic for topic, partitions in ConsumerProtocolMemberAssignment.decode(encoded).assignment if partitions}
