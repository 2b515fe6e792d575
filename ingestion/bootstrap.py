"""The composition root: `open_services` constructs the adapters that the API, the workers and the commands share.

Opening makes the clients and nothing else: no server has to be up for a process to start. An adapter that one process
alone needs is constructed where that process starts: the group's consumer in `workers.worker`, a worker's own embedder
in `workers.embedding.factory`, the embedding service's cache in `workers.embedding.serving.cache`, a scratch index in
`workers.commands.bench`. `prepare` opens two stores before any process starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from ingestion.adapters.embedding.services import EmbeddersByFingerprint
from ingestion.adapters.kafka.consumer_group import KafkaConsumerGroup
from ingestion.adapters.kafka.dead_letters import KafkaDeadLetters
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.adapters.minio import MinioBlobStore
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis.progress import RedisProgress
from ingestion.adapters.redis.query_cache import RedisQueryCache
from ingestion.ports import (
    ApiKeys,
    ArchivedDocuments,
    Archiving,
    Bindings,
    BlobStore,
    Cancellations,
    CollectionCatalogue,
    CollectionVersions,
    ConsumerGroup,
    DeadLetterNotes,
    DeadLetters,
    Deletions,
    DocumentCounts,
    DocumentEvents,
    DocumentFeed,
    DocumentReader,
    EmbedderChoice,
    Flows,
    Generations,
    Holds,
    JobQueue,
    Ledger,
    MetadataRecords,
    Outbox,
    PageRecords,
    Pingable,
    Progress,
    QueryCache,
    ReadyPages,
    Receiving,
    RecordInventory,
    Recovery,
    ReembeddingRecords,
    Revisions,
    SignCodeRecords,
    TenantUsage,
    TermRecords,
    Uploads,
    VectorStore,
    WebhookDeliveries,
    Webhooks,
    WorkRecords,
)
from ingestion.settings import Settings


class DocumentStore(
    Uploads,
    DocumentCounts,
    DocumentFeed,
    Flows,
    DocumentReader,
    Deletions,
    Cancellations,
    PageRecords,
    ReadyPages,
    Ledger,
    Outbox,
    Recovery,
    DeadLetterNotes,
    CollectionCatalogue,
    CollectionVersions,
    Holds,
    Bindings,
    Generations,
    ReembeddingRecords,
    Archiving,
    Receiving,
    ArchivedDocuments,
    RecordInventory,
    SignCodeRecords,
    ApiKeys,
    TenantUsage,
    MetadataRecords,
    Revisions,
    TermRecords,
    WorkRecords,
    DocumentEvents,
    Webhooks,
    WebhookDeliveries,
    Pingable,
    Protocol,
):
    """Every port of MongoDB. Only the wiring names this type: its users name the ports that they use."""


@dataclass(frozen=True, slots=True)
class Services:
    """The servers of a process, behind ports."""

    settings: Settings
    queue: JobQueue
    dead_letters: DeadLetters
    consumer_group: ConsumerGroup
    blobs: BlobStore
    vectors: VectorStore
    documents: DocumentStore
    progress: Progress
    query_cache: QueryCache
    embedder: EmbedderChoice
    """The embedding services over HTTP, for queries. A worker embeds pages with an embedder of its own."""


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Construct the adapters, and close them in reverse order at the end."""
    async with AsyncExitStack() as stack:
        yield Services(
            settings=settings,
            dead_letters=KafkaDeadLetters(settings.kafka),
            consumer_group=KafkaConsumerGroup(settings.kafka),
            blobs=await stack.enter_async_context(MinioBlobStore(settings.s3)),
            documents=await stack.enter_async_context(MongoDocumentStore(settings.mongo)),
            vectors=await stack.enter_async_context(MilvusVectorStore(settings.milvus)),
            progress=await stack.enter_async_context(RedisProgress(settings.redis)),
            query_cache=await stack.enter_async_context(RedisQueryCache(settings.redis)),
            embedder=await stack.enter_async_context(EmbeddersByFingerprint(settings.embedder)),
            queue=await stack.enter_async_context(KafkaJobQueue(settings.kafka)),
        )
