"""Make what the services must hold before the first document comes: topics, bucket, indexes, counters."""

from __future__ import annotations

from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.adapters.minio import MinioBlobStore
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.settings import Settings


async def prepare(settings: Settings) -> None:
    """Create what is missing and leave what exists, so that it may be repeated, also by several processes at once.

    Raises DependencyUnavailable where a server does not answer.
    """
    async with MinioBlobStore(settings.s3) as blobs, MongoDocumentStore(settings.mongo) as documents:
        await gather_or_cancel(ensure_topics(settings.kafka), blobs.prepare(), documents.prepare())
