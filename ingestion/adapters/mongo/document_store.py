"""The document store: one object and one client for all ports that MongoDB serves."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from bson.int64 import Int64
from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.api_keys import MongoApiKeys
from ingestion.adapters.mongo.archiving import MongoArchivedDocuments, MongoArchiving, MongoReceiving
from ingestion.adapters.mongo.bindings import MongoBindings
from ingestion.adapters.mongo.cancellations import MongoCancellations
from ingestion.adapters.mongo.catalogue import MongoCollectionCatalogue
from ingestion.adapters.mongo.collection_versions import MongoCollectionVersions
from ingestion.adapters.mongo.counts import MongoDocumentCounts
from ingestion.adapters.mongo.database import Database, MongoCollection
from ingestion.adapters.mongo.dead_letter_notes import MongoDeadLetterNotes
from ingestion.adapters.mongo.document_events import MongoDocumentEvents
from ingestion.adapters.mongo.documents import MongoDeletions, MongoDocumentReader, MongoUploads
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.feed import MongoDocumentFeed
from ingestion.adapters.mongo.flows import MongoFlows
from ingestion.adapters.mongo.generations import MongoGenerations
from ingestion.adapters.mongo.holds import MongoHolds
from ingestion.adapters.mongo.indexes import INDEXES
from ingestion.adapters.mongo.inventory import PAGE_KEYS, MongoRecordInventory
from ingestion.adapters.mongo.ledger import MongoLedger
from ingestion.adapters.mongo.metadata import MongoMetadataRecords
from ingestion.adapters.mongo.migrations import MongoMigrations
from ingestion.adapters.mongo.outbox import MongoOutbox
from ingestion.adapters.mongo.page_records import MongoPageRecords
from ingestion.adapters.mongo.ready_pages import MongoReadyPages
from ingestion.adapters.mongo.recovery import MongoRecovery
from ingestion.adapters.mongo.reembedding import MongoReembeddingRecords
from ingestion.adapters.mongo.revisions import MongoRevisions
from ingestion.adapters.mongo.sign_codes import MongoSignCodeRecords
from ingestion.adapters.mongo.tenant_usage import MongoTenantUsage
from ingestion.adapters.mongo.terms import MongoTermRecords
from ingestion.adapters.mongo.webhooks import MongoWebhookDeliveries, MongoWebhooks
from ingestion.adapters.mongo.work_records import MongoWorkRecords
from ingestion.settings import MongoSettings


class MongoDocumentStore(
    MongoUploads,
    MongoDocumentCounts,
    MongoDocumentFeed,
    MongoFlows,
    MongoDocumentReader,
    MongoDeletions,
    MongoCancellations,
    MongoPageRecords,
    MongoReadyPages,
    MongoLedger,
    MongoOutbox,
    MongoRecovery,
    MongoDeadLetterNotes,
    MongoCollectionCatalogue,
    MongoCollectionVersions,
    MongoHolds,
    MongoBindings,
    MongoGenerations,
    MongoReembeddingRecords,
    MongoArchiving,
    MongoReceiving,
    MongoArchivedDocuments,
    MongoRecordInventory,
    MongoSignCodeRecords,
    MongoApiKeys,
    MongoTenantUsage,
    MongoMetadataRecords,
    MongoRevisions,
    MongoTermRecords,
    MongoWorkRecords,
    MongoDocumentEvents,
    MongoWebhooks,
    MongoWebhookDeliveries,
    MongoMigrations,
):
    """Each base is the adapter of one port. All share a client, which the context manager closes."""

    def __init__(self, settings: MongoSettings) -> None:
        self._database = Database(settings)
        super().__init__(self._database)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.close()

    @translated
    async def prepare(self) -> None:
        """Create missing indexes and the counter of page keys. Safe to repeat, also by several processes at once."""
        for collection in self._indexed:
            for keys in INDEXES[collection.name]:
                await collection.create_index(keys)
        try:
            await self._counters.insert_one({"_id": PAGE_KEYS, "next": Int64(1)})
        except DuplicateKeyError:
            return

    @translated
    async def missing(self) -> list[str]:
        """What `prepare` would create. Empty where nothing is missing."""
        missing = []
        for collection in self._indexed:
            found = {tuple(index["key"]) for index in (await collection.index_information()).values()}
            missing += [
                f"the index of {collection.name} on {', '.join(name for name, _ in keys)}"
                for keys in INDEXES[collection.name]
                if tuple(keys) not in found
            ]
        if await self._counters.find_one({"_id": PAGE_KEYS}) is None:
            missing.append("the counter of page keys")
        return missing

    @property
    def _indexed(self) -> tuple[MongoCollection, ...]:
        return self._documents, self._pages, self._archived, self._events, self._deliveries

    @translated
    async def ping(self) -> None:
        await self._database.ping()
