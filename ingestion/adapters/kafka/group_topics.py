"""Which topics the workers' consumer group reads, as its coordinator says."""

from __future__ import annotations

from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from ingestion.adapters.kafka.client_options import client_options
from ingestion.adapters.kafka.client_start import start_client
from ingestion.adapters.kafka.producer import REQUEST_TIMEOUT_MS, translated
from ingestion.settings import KafkaSettings

_STABLE: Final = "Stable"


async def unassigned_topics(settings: KafkaSettings) -> set[str]:
    """Return the topics of jobs and retries of which no member of the group has a partition. Nothing reads them.

    Returns none while the group has no members, or distributes its partitions. Raises DependencyRefused,
    DependencyUnavailable.
    """
    async with translated():
        admin = AIOKafkaAdminClient(**client_options(settings, request_timeout_ms=REQUEST_TIMEOUT_MS))
        await start_client(admin, settings)
        try:
            [answer] = await admin.describe_consumer_groups([settings.kafka_group])
        finally:
            await admin.close()
    [group] = answer.to_object()["groups"]
    if group["state"] != _STABLE:
        return set()
    wanted = {settings.kafka_jobs_topic, *settings.retry_topics.values()}
    return wanted - {topic for member in group["members"] for topic in _topics(member)}


def _topics(member: dict[str, Any]) -> set[str]:
    encoded = member["member_assignment"]
    if not encoded:
        return set()
    return {topic for topic, partitions in ConsumerProtocolMemberAssignment.decode(encoded).assignment if partitions}
