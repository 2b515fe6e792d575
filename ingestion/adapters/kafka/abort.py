"""Ends a producer that does not stop by itself. Only this module uses private names of aiokafka's producer.

`tests/unit/test_private_names.py` fails if a release of aiokafka lacks one of them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

STOP_TIMEOUT_S: Final = 5.0
_CANCEL_S: Final = 1.0


async def close_producer(producer: AIOKafkaProducer, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Deliver what is in flight for at most `timeout_s`, then fail the rest and close all connections.

    Without a broker, `producer.stop` would never return, and the producer would go on sending afterwards.
    """
    try:
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await producer.stop()
                return
    finally:
        await _abort(producer)


async def _abort(producer: AIOKafkaProducer) -> None:
    producer._message_accumulator.fail_all(ProducerClosed())
    sender = producer._sender.sender_task
    if sender is not None and not sender.done():
        sender.cancel()
        await asyncio.wait([sender], timeout=_CANCEL_S)
        sender.cancel()  # the first one lets it wait for its requests
        await asyncio.wait([sender], timeout=_CANCEL_S)
    await producer.client.close()
