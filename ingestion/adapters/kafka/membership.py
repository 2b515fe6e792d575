"""Group membership that aiokafka has no public API for. Only this module uses private names of aiokafka.

`tests/unit/test_private_names.py` fails if a release of aiokafka lacks one of them.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer


def membership_failure(consumer: AIOKafkaConsumer) -> str | None:
    """Return why aiokafka has left the group for good. None if it has not, or if the consumer is in no group."""
    coordinator = consumer._coordinator
    if coordinator is None or not coordinator._coordination_task.done():
        return None
    return repr(coordinator._coordination_task.exception())


def leave_group_on_stop(consumer: AIOKafkaConsumer) -> None:
    """Make `consumer.stop` leave the group at once, also for a static member.

    aiokafka keeps a static member in the group, because it may be back soon. A worker that stops in good order leaves.
    The member's name is removed only when it leaves: if a join is in progress, the member would otherwise join again
    without a name, and brokers would wait for that second member.
    """
    coordinator = consumer._coordinator
    if coordinator is None:
        return
    leave = coordinator._maybe_leave_group

    async def leave_although_static() -> None:
        coordinator._group_instance_id = None
        await leave()

    coordinator._maybe_leave_group = leave_although_static


async def close_connections(consumer: AIOKafkaConsumer) -> None:
    """Close the connections of a consumer whose `stop` did not return. Safe after a `stop` that did."""
    await consumer._client.close()
