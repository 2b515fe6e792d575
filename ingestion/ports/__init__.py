"""What the pipeline, the API and the search ask of the outside world.

Every method may block on its server and raises `DependencyUnavailable` while that server does not answer; each
docstring says what else it raises and whether calling it twice is safe. Objects behind these protocols are made in
`bootstrap` and nowhere else.
"""

from ingestion.ports.caches import QueryCache
from ingestion.ports.inventory import BlobEntry, PageTotals
from ingestion.ports.messaging import DeadLetters, JobQueue, Progress
from ingestion.ports.neighbours import Neighbours
from ingestion.ports.pages import Embedder, EmbedderChoice, EmbeddingServer, PageSource, Renderer, WatchableEmbedder
from ingestion.ports.records import DocumentStore
from ingestion.ports.stores import BlobStore, VectorStore
from ingestion.ports.versions import Searchable

__all__ = [
    "BlobEntry",
    "BlobStore",
    "DeadLetters",
    "DocumentStore",
    "Embedder",
    "EmbedderChoice",
    "EmbeddingServer",
    "JobQueue",
    "Neighbours",
    "PageSource",
    "PageTotals",
    "Progress",
    "QueryCache",
    "Renderer",
    "Searchable",
    "VectorStore",
    "WatchableEmbedder",
]
