"""The admin client of Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient

from ingestion.adapters.kafka.client_options import client_options
from ingestion.adapters.kafka.client_start import start_client
from ingestion.adapters.kafka.producer import REQUEST_TIMEOUT_MS, translated
from ingestion.settings import KafkaSettings


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that has started, until the end of the block. Errors of aiokafka in the block are translated.

    Raises DependencyRefused, DependencyUnavailable.
    """
    async with translated():
        admin = AIOKafkaAdminClient(**client_options(settings, request_timeout_ms=REQUEST_TIMEOUT_MS))
        await start_client(admin, settings)
        try:
            yield admin
        finally:
            await admin.close()
