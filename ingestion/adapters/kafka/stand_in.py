"""A workaround for noida-db, the stand-in of the local stack. Setting: `PAGEMILL_KAFKA_STAND_IN`.

noida-db answers an empty fetch at once, and aiokafka then sends the next one: an idle worker takes half a core. Apache
Kafka answers after `fetch.max.wait.ms`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer

GLANCE_MS: Final = 20
"""The longest wait of a poll, because fetches are answered at once."""
_REST_S: Final = 0.1


async def rest_after_empty_poll(consumer: AIOKafkaConsumer) -> None:
    """Fetch nothing for a while."""
    awake = consumer.assignment() - consumer.paused()
    consumer.pause(*awake)
    await asyncio.sleep(_REST_S)
    consumer.resume(*(awake & consumer.assignment()))
