"""The ports: protocols of the servers that the pipeline, the API and the search use.

Every method may block on its server and raises `DependencyUnavailable` while that server does not answer; each
docstring says what else it raises and whether calling it twice is safe. `bootstrap` makes the adapters behind these
protocols. A class that needs several ports of one object names them in a Protocol of its own.
"""

from ingestion.ports.api_keys import ApiKeys
from ingestion.ports.archiving import ArchivedDocuments, Archiving, PackedDocument, PackedPage, Receiving
from ingestion.ports.bindings import Bindings
from ingestion.ports.caches import QueryCache
from ingestion.ports.cancellations import Cancellations
from ingestion.ports.catalogue import CollectionCatalogue
from ingestion.ports.consumer_group import ConsumerGroup, GroupSnapshot
from ingestion.ports.conversion import Converter, OfficeConverter
from ingestion.ports.counts import DocumentCounts
from ingestion.ports.documents import Deletions, DocumentReader, MetadataRecords, Pingable, Uploads
from ingestion.ports.embedding import Activity, Embedder, EmbedderChoice, EmbeddingServer, WatchableEmbedder
from ingestion.ports.feed import DocumentFeed
from ingestion.ports.flows import Flows
from ingestion.ports.generations import Generations
from ingestion.ports.holds import Holds
from ingestion.ports.inventory import BlobEntry, PageTotals, RecordInventory
from ingestion.ports.ledger import Ledger
from ingestion.ports.messaging import DeadLetterNotes, DeadLetters, JobQueue, PlacedLetter, Progress
from ingestion.ports.neighbours import Neighbours
from ingestion.ports.outbox import Outbox
from ingestion.ports.page_records import PageRecords
from ingestion.ports.ready_pages import PageRange, ReadyPages
from ingestion.ports.recovery import Recovery
from ingestion.ports.reembedding import ReembeddingRecords
from ingestion.ports.rendering import PageSource, Renderer, TextReader
from ingestion.ports.revisions import Revisions
from ingestion.ports.sign_codes import SignCodeRecords
from ingestion.ports.stores import BlobStore, VectorStore
from ingestion.ports.tenant_usage import DayUsage, TenantContents, TenantUsage
from ingestion.ports.terms import TermRecords
from ingestion.ports.versions import CollectionVersions, Searchable
from ingestion.ports.webhooks import DocumentEvents, PendingEvents, WebhookDeliveries, Webhooks, WebhookSender
from ingestion.ports.work_records import FinishedMinute, WorkRecords

__all__ = [
    "Activity",
    "ApiKeys",
    "ArchivedDocuments",
    "Archiving",
    "Bindings",
    "BlobEntry",
    "BlobStore",
    "Cancellations",
    "CollectionCatalogue",
    "CollectionVersions",
    "ConsumerGroup",
    "Converter",
    "DayUsage",
    "DeadLetterNotes",
    "DeadLetters",
    "Deletions",
    "DocumentCounts",
    "DocumentEvents",
    "DocumentFeed",
    "DocumentReader",
    "Embedder",
    "EmbedderChoice",
    "EmbeddingServer",
    "FinishedMinute",
    "Flows",
    "Generations",
    "GroupSnapshot",
    "Holds",
    "JobQueue",
    "Ledger",
    "MetadataRecords",
    "Neighbours",
    "OfficeConverter",
    "Outbox",
    "PackedDocument",
    "PackedPage",
    "PageRange",
    "PageRecords",
    "PageSource",
    "PageTotals",
    "PendingEvents",
    "Pingable",
    "PlacedLetter",
    "Progress",
    "QueryCache",
    "ReadyPages",
    "Receiving",
    "RecordInventory",
    "Recovery",
    "ReembeddingRecords",
    "Renderer",
    "Revisions",
    "Searchable",
    "SignCodeRecords",
    "TenantContents",
    "TenantUsage",
    "TermRecords",
    "TextReader",
    "Uploads",
    "VectorStore",
    "WatchableEmbedder",
    "WebhookDeliveries",
    "WebhookSender",
    "Webhooks",
    "WorkRecords",
]
