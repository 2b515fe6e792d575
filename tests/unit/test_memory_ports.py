"""The in-memory ports keep the contracts of the adapters."""

from __future__ import annotations

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.messages import Record
from ingestion.settings import KafkaSettings
from tests.memory import MemoryBlobStore, MemoryDocumentStore, MemoryJobQueue, MemoryProgress, MemoryVectorStore
from tests.port_contracts.api_keys import ApiKeysContract
from tests.port_contracts.blob_store import BlobStoreContract
from tests.port_contracts.cancellations import CancellationsContract
from tests.port_contracts.counts import DocumentCountsContract
from tests.port_contracts.dead_letter_notes import DeadLetterNotesContract
from tests.port_contracts.documents import RecordsContract
from tests.port_contracts.feed import DocumentFeedContract
from tests.port_contracts.flows import FlowsContract
from tests.port_contracts.job_queue import JobQueueContract, ReadTopic
from tests.port_contracts.labels import LabelsContract, RevisionsContract
from tests.port_contracts.ledger import LedgerContract
from tests.port_contracts.progress import ProgressContract
from tests.port_contracts.ready_pages import ReadyPagesContract
from tests.port_contracts.recovery import RecoveryContract
from tests.port_contracts.sign_codes import SignCodesContract
from tests.port_contracts.tenant_usage import TenantUsageContract
from tests.port_contracts.terms import TermsContract
from tests.port_contracts.vector_store import DIM, SHARED, VectorStoreContract
from tests.port_contracts.vector_store import first_key as first_key
from tests.port_contracts.webhooks import DocumentEventsContract, WebhooksContract
from tests.port_contracts.work_records import WorkRecordsContract


class TestMemoryDocumentStore(
    ApiKeysContract,
    TenantUsageContract,
    FlowsContract,
    WorkRecordsContract,
    DocumentEventsContract,
    WebhooksContract,
    DeadLetterNotesContract,
    CancellationsContract,
    DocumentCountsContract,
    DocumentFeedContract,
    LabelsContract,
    LedgerContract,
    ReadyPagesContract,
    RecordsContract,
    RecoveryContract,
    RevisionsContract,
    SignCodesContract,
    TermsContract,
):
    @pytest.fixture
    def store(self) -> MemoryDocumentStore:
        return MemoryDocumentStore()

    async def pass_time(self, store: DocumentStore) -> None:
        assert isinstance(store, MemoryDocumentStore)
        store.clock.advance(5.0)


class TestMemoryBlobStore(BlobStoreContract):
    @pytest.fixture
    def store(self) -> MemoryBlobStore:
        return MemoryBlobStore()


class TestMemoryVectorStore(VectorStoreContract):
    @pytest.fixture
    async def store(self) -> MemoryVectorStore:
        store = MemoryVectorStore()
        await store.ensure(SHARED, DIM)
        return store

    @pytest.fixture
    def own_collection(self) -> str:
        return "own"


class TestMemoryProgress(ProgressContract):
    @pytest.fixture
    def progress(self) -> MemoryProgress:
        return MemoryProgress()


class TestMemoryJobQueue(JobQueueContract):
    @pytest.fixture
    def kafka(self) -> KafkaSettings:
        return KafkaSettings()

    @pytest.fixture
    def queue(self, kafka: KafkaSettings) -> MemoryJobQueue:
        return MemoryJobQueue(kafka)

    @pytest.fixture
    def read_topic(self, queue: MemoryJobQueue) -> ReadTopic:
        async def read(topic: str) -> list[Record]:
            return queue.topics[topic]

        return read
