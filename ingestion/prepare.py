"""Create the topics, the bucket, the indexes and the counter that the first document needs."""

from __future__ import annotations

from ingestion.adapters.kafka.topic_check import log_topic_faults
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.adapters.minio import MinioBlobStore
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.settings import Settings


async def prepare(settings: Settings) -> None:
    """Create the missing ones, keep the existing ones, and log each topic that is not as wanted.

    Safe to repeat, also by several processes at once. Raises DependencyUnavailable if a server does not answer.
    """
    async with MinioBlobStore(settings.s3) as blobs, MongoDocumentStore(settings.mongo) as documents:
        await gather_or_cancel(ensure_topics(settings.kafka), blobs.prepare(), documents.prepare())
    await log_topic_faults(settings.kafka)
