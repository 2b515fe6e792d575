"""Group membership that aiokafka has no public API for. Only this module uses private names of aiokafka.

`tests/unit/test_private_names.py` fails if a release of aiokafka lacks one of them.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

STOP_TIMEOUT_S: Final = 15.0
_CANCEL_S: Final = 1.0


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


async def close_consumer(consumer: AIOKafkaConsumer, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop a consumer within `timeout_s` and close its connections, also where aiokafka's `stop` does not end well.

    `stop` cancels its fetches and waits for each. It raises CancelledError where a fetch waits to be repeated, because
    its broker is down. That error is not a cancellation of the caller, so `stop` runs in a task of its own.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait({stopping}, timeout=timeout_s)
    finally:
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=_CANCEL_S)  # a part of `stop` ignores one cancellation
        await consumer._client.close()
    error = stopping.exception() if stopping.done() and not stopping.cancelled() else None
    if error is not None and not isinstance(error, KafkaError):
        raise error
