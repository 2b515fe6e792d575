"""Start an aiokafka client."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError

from ingestion.adapters.kafka.refusals import CLIENT_ERRORS, explained
from ingestion.settings.kafka_client import KafkaClientSettings


async def start_client(client: Any, settings: KafkaClientSettings) -> None:
    """Start a producer, a consumer or an admin client. A client that does not start is stopped.

    Raises DependencyRefused or DependencyUnavailable, with the cause that aiokafka hides.
    """
    try:
        await client.start()
    except BaseException as error:
        with suppress(KafkaError):
            await (client.stop() if hasattr(client, "stop") else client.close())
        if isinstance(error, CLIENT_ERRORS):
            raise await explained(settings, error) from error
        raise
