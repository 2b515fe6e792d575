"""In-memory implementations of ports, for unit tests: one process, no server, an injected clock.

`tests.port_contracts` holds them to the contracts of the adapters. A method changes its state without an `await`
between reading and writing: so each call is one compare-and-set, as in the database.
"""

from tests.memory.blob_store import MemoryBlobStore
from tests.memory.clock import Clock
from tests.memory.document_store import MemoryDocumentStore
from tests.memory.job_queue import MemoryJobQueue
from tests.memory.progress import MemoryProgress
from tests.memory.vector_store import MemoryVectorStore

__all__ = [
    "Clock",
    "MemoryBlobStore",
    "MemoryDocumentStore",
    "MemoryJobQueue",
    "MemoryProgress",
    "MemoryVectorStore",
]
