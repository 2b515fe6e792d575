"""The ports of the document store over one state."""

from __future__ import annotations

from tests.memory.api_keys import MemoryApiKeys
from tests.memory.cancellations import MemoryCancellations
from tests.memory.catalogue import (
    MemoryArchivedDocuments,
    MemoryBindings,
    MemoryCollectionCatalogue,
    MemoryCollectionVersions,
    MemoryGenerations,
    MemoryHolds,
)
from tests.memory.clock import Clock
from tests.memory.counts import MemoryDocumentCounts
from tests.memory.dead_letter_notes import MemoryDeadLetterNotes
from tests.memory.documents import (
    MemoryDeletions,
    MemoryDocumentReader,
    MemoryMetadataRecords,
    MemoryPageRecords,
    MemoryReadyPages,
    MemoryUploads,
)
from tests.memory.feed import MemoryDocumentFeed
from tests.memory.flows import MemoryFlows
from tests.memory.ledger import MemoryLedger, MemoryOutbox, MemoryRecovery, MemoryRevisions
from tests.memory.sign_codes import MemorySignCodeRecords
from tests.memory.state import State
from tests.memory.tenant_usage import MemoryTenantUsage
from tests.memory.terms import MemoryTermRecords
from tests.memory.webhooks import MemoryDocumentEvents, MemoryWebhookDeliveries, MemoryWebhooks
from tests.memory.work_records import MemoryWorkRecords


class MemoryDocumentStore(
    MemoryUploads,
    MemoryDocumentCounts,
    MemoryDocumentFeed,
    MemoryFlows,
    MemoryDocumentReader,
    MemoryDeletions,
    MemoryPageRecords,
    MemoryReadyPages,
    MemoryLedger,
    MemoryOutbox,
    MemoryRecovery,
    MemoryCollectionCatalogue,
    MemoryCollectionVersions,
    MemoryHolds,
    MemoryBindings,
    MemoryGenerations,
    MemoryArchivedDocuments,
    MemorySignCodeRecords,
    MemoryApiKeys,
    MemoryTenantUsage,
    MemoryCancellations,
    MemoryMetadataRecords,
    MemoryRevisions,
    MemoryTermRecords,
    MemoryWorkRecords,
    MemoryDeadLetterNotes,
    MemoryDocumentEvents,
    MemoryWebhooks,
    MemoryWebhookDeliveries,
):
    """The ports that uploads, workers, the janitor, deletions and searches use. `state` is open to tests."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(State(clock or Clock()))

    async def ping(self) -> None: ...
