"""The ANN index: one Milvus collection per document collection, a row per page vector."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ingestion.adapters.milvus_errors import NOT_FOUND, NOT_LOADED, milvus_code, translated
from ingestion.adapters.threads import Threads
from ingestion.errors import EmbedderMismatch, WorkerFault
from ingestion.model import ROWS_PER_PAGE, PageVectors, Vectors
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")

_THREADS: Final = 8
_CONNECT_TIMEOUT_S: Final = 5.0
_PING_TIMEOUT_S: Final = 3.0
_UPSERT_BYTES: Final = 8 * 1024**2
"""Size of one write. Servers refuse messages of more than 64 MB, and a small one blocks others less."""
_DELETE_PAGES: Final = 256
_MAX_TOP_K: Final = 16_384
_STRONG: Final = "Strong"
_KEEPALIVE_MS: Final = 330_000
"""gRPC servers that were told nothing else drop whoever pings more often than every five minutes during a request,
and pymilvus would ping every ten seconds."""


def index_name(collection: str) -> str:
    """What the document collection is called in Milvus, which allows letters, digits and '_' only.

    A name with '-' goes under another prefix and carries a hash, so that no two of ours share one of Milvus's.
    """
    if re.fullmatch(r"[A-Za-z0-9_]+", collection):
        return f"colqwen_{collection}"
    digest = hashlib.sha256(collection.encode()).hexdigest()[:16]
    return f"colqwenx_{re.sub('[^A-Za-z0-9_]', '_', collection)}_{digest}"


class MilvusVectorStore:
    """VectorStore. The client is made at the first use; it is synchronous and runs in threads."""

    def __init__(self, settings: MilvusSettings) -> None:
        self._settings = settings
        self._threads = Threads(_THREADS)
        self._connecting = threading.Lock()
        self._connected: MilvusClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connected is not None:
            await self._threads.write(self._connected.close)

    async def ensure(self, collection: str, dim: int) -> None:
        await self._threads.write(translated(lambda: self._ensure(index_name(collection), dim)))

    async def upsert(self, collection: str, pages: Sequence[PageVectors]) -> None:
        def write() -> None:
            for rows in _requests(pages):
                self._client().upsert(index_name(collection), rows, timeout=self._settings.milvus_timeout_s)

        await self._threads.write(translated(write))

    async def search(self, collection: str, query: Vectors, limit: int) -> list[list[tuple[int, float]]]:
        if not len(query):
            return []
        rows_per_token = min(limit, _MAX_TOP_K)

        def find(client: MilvusClient, name: str) -> list[list[tuple[int, float]]]:
            found = client.search(
                name,
                data=list(query),
                anns_field="vector",
                limit=rows_per_token,
                # The page key is part of the primary key, so no field has to be read.
                search_params={"metric_type": "IP", "params": {"ef": max(self._settings.hnsw_ef, rows_per_token)}},
                consistency_level=_STRONG,
                timeout=self._settings.milvus_timeout_s,
            )
            return [
                [(pk // ROWS_PER_PAGE, score) for pk, score in zip(h.ids, h.distances, strict=True)] for h in found
            ]

        nothing: list[list[tuple[int, float]]] = [[] for _ in query]
        return await self._threads.read(translated(lambda: self._on_loaded(collection, find, unknown=nothing)))

    async def delete_pages(self, collection: str, first_page_key: int, count: int) -> None:
        def delete(client: MilvusClient, name: str) -> None:
            for first in range(first_page_key, first_page_key + count, _DELETE_PAGES):
                pages = min(_DELETE_PAGES, first_page_key + count - first)
                client.delete(
                    name,
                    filter=_rows_of(first, pages),
                    consistency_level=_STRONG,
                    timeout=self._settings.milvus_timeout_s,
                )

        await self._threads.write(translated(lambda: self._on_loaded(collection, delete, unknown=None)))

    async def count_rows(self, collection: str, first_page_key: int, count: int) -> int:
        return await self._count(collection, _rows_of(first_page_key, count))

    async def count_rows_in(self, collection: str, page_keys: Sequence[range]) -> int:
        if not page_keys:
            return 0
        return await self._count(collection, " or ".join(f"({_rows_of(keys.start, len(keys))})" for keys in page_keys))

    async def count(self, collection: str) -> int:
        return await self._count(collection, "")

    async def drop(self, collection: str) -> None:
        def drop(client: MilvusClient, name: str) -> None:
            # Released first, because a server may otherwise finish building an index that nobody needs.
            client.release_collection(name, timeout=self._settings.milvus_timeout_s)
            client.drop_collection(name, timeout=self._settings.milvus_timeout_s)

        await self._threads.write(translated(lambda: self._on_existing(collection, drop, unknown=None)))

    async def ping(self) -> None:
        await self._threads.read(translated(lambda: self._client().list_collections(timeout=_PING_TIMEOUT_S)))

    async def _count(self, collection: str, rows: str) -> int:
        def count(client: MilvusClient, name: str) -> int:
            answer = client.query(
                name,
                filter=rows,
                output_fields=["count(*)"],
                consistency_level=_STRONG,
                timeout=self._settings.milvus_timeout_s,
            )
            return int(answer[0]["count(*)"])

        return await self._threads.read(translated(lambda: self._on_loaded(collection, count, unknown=0)))

    def _client(self) -> MilvusClient:
        """The client, made once, in a thread: importing pymilvus takes most of a second."""
        with self._connecting:
            if self._connected is None:
                from pymilvus import MilvusClient

                # It logs every error with a traceback. Here each one is raised, translated, to whoever asked.
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
                self._connected = MilvusClient(
                    uri=self._settings.milvus_uri,
                    token=self._settings.milvus_token.get_secret_value(),
                    timeout=_CONNECT_TIMEOUT_S,
                    grpc_options={"grpc.keepalive_time_ms": _KEEPALIVE_MS},
                )
            return self._connected

    def _on_existing(self, collection: str, request: Callable[[MilvusClient, str], T], unknown: T) -> T:
        """Do `request` on the collection; return `unknown` where there is no such collection."""
        try:
            return request(self._client(), index_name(collection))
        except Exception as error:
            if milvus_code(error) != NOT_FOUND:
                raise
            return unknown

    def _on_loaded(self, collection: str, request: Callable[[MilvusClient, str], T], unknown: T) -> T:
        """As `_on_existing`, and load the collection where the server has let go of it, as after a restart."""

        def loading(client: MilvusClient, name: str) -> T:
            try:
                return request(client, name)
            except Exception as error:
                if milvus_code(error) != NOT_LOADED:
                    raise
                client.load_collection(name, timeout=self._settings.milvus_timeout_s)
                return request(client, name)

        return self._on_existing(collection, loading, unknown)

    def _ensure(self, name: str, dim: int) -> None:
        """Collection, index and load, each where it is missing, because another process may be half-way through."""
        client = self._client()
        timeout_s = self._settings.milvus_timeout_s
        if not client.has_collection(name, timeout=timeout_s):
            self._create(client, name, dim)
        held = _dim_of(client.describe_collection(name, timeout=timeout_s))
        if held != dim:
            raise EmbedderMismatch(f"{name} holds vectors of {held} dimensions, not {dim}")
        if not client.list_indexes(name, timeout=timeout_s):
            self._index(client, name)
        client.load_collection(name, timeout=timeout_s)

    def _create(self, client: MilvusClient, name: str, dim: int) -> None:
        from pymilvus import DataType

        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("pk", DataType.INT64, is_primary=True)
        schema.add_field("page_key", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        timeout_s = self._settings.milvus_timeout_s
        _unless_there(
            lambda: client.create_collection(name, schema=schema, consistency_level=_STRONG, timeout=timeout_s),
            there=lambda: bool(client.has_collection(name, timeout=timeout_s)),
        )

    def _index(self, client: MilvusClient, name: str) -> None:
        graph = {"M": self._settings.hnsw_m, "efConstruction": self._settings.hnsw_ef_construction}
        index = client.prepare_index_params()
        # Sent twice, flat and nested: pymilvus 3 flattens, and Milvus Lite reads the nested form only.
        index.add_index("vector", index_type="HNSW", metric_type="IP", params={**graph, "params": graph})
        timeout_s = self._settings.milvus_timeout_s
        _unless_there(
            lambda: client.create_index(name, index, timeout=timeout_s),
            there=lambda: bool(client.list_indexes(name, timeout=timeout_s)),
        )


def _unless_there(create: Callable[[], None], there: Callable[[], bool]) -> None:
    """Create something that another process may create at the same moment."""
    try:
        create()
    except Exception:
        if not there():
            raise


def _dim_of(description: dict[str, Any]) -> int:
    return next(int(field["params"]["dim"]) for field in description["fields"] if field["name"] == "vector")


def _rows_of(first_page_key: int, count: int) -> str:
    """The filter for every row of `count` pages."""
    return f"pk >= {first_page_key * ROWS_PER_PAGE} and pk < {(first_page_key + count) * ROWS_PER_PAGE}"


def _requests(pages: Sequence[PageVectors]) -> Iterator[list[dict[str, Any]]]:
    """The rows of `pages` in lists that are small enough for one request each."""
    rows: list[dict[str, Any]] = []
    for page in pages:
        tokens, dim = page.vectors.shape
        if tokens > ROWS_PER_PAGE:
            raise WorkerFault(f"page {page.page.page_number} has {tokens} vectors; {ROWS_PER_PAGE} are possible")
        rows_per_request = max(1, _UPSERT_BYTES // (4 * dim))
        for patch, vector in enumerate(page.vectors):
            rows.append({"pk": page.page_key * ROWS_PER_PAGE + patch, "page_key": page.page_key, "vector": vector})
            if len(rows) >= rows_per_request:
                yield rows
                rows = []
    if rows:
        yield rows
