"""The ANN index: one Milvus collection per document collection, a row per page vector."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

import stamina

from ingestion.adapters.milvus.aliases import drop_with_aliases, point_alias
from ingestion.adapters.milvus.connection import Budgeted, connect, open_searcher, open_writer
from ingestion.adapters.milvus.errors import NOT_LOADED, is_lost, milvus_code, translated
from ingestion.adapters.milvus.held_indexes import HeldIndexes
from ingestion.adapters.milvus.index_types import search_parameters
from ingestion.adapters.milvus.names import IndexNames
from ingestion.adapters.milvus.row_reading import read_rows
from ingestion.adapters.milvus.rows import RowWriter
from ingestion.adapters.milvus.schema import create_collection, ensure_index
from ingestion.adapters.milvus.search import Consistency, RowSearcher
from ingestion.adapters.threads import Threads
from ingestion.errors import WorkerFault
from ingestion.model import ROWS_PER_PAGE, PageVectors, Vectors
from ingestion.ports import Neighbours
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")

_THREADS: Final = 8
_PING_TIMEOUT_S: Final = 3.0
_DELETE_PAGES: Final = 256
_MAX_TOP_K: Final = 16_384
_MOST_RANGES: Final = 16
"""Ranges of page keys in the filter of a search. More of them are written as a list of page keys."""
_STRONG: Final = "Strong"
"""Milvus waits until all earlier writes can be seen: up to its time tick, 200 ms."""
_BOUNDED_FROM_S: Final = 15.0
"""A search with bounded consistency may miss writes that are younger than Milvus's `common.gracefulTime`, 5 s by
default. This is three times that."""
_LOST_S: Final = 2.0
"""For how long a search is repeated after a lost connection, such as one closed while idle, or a refusal. In an outage
the caller decides."""


class MilvusVectorStore:
    """VectorStore. The client is synchronous and runs in threads. It is created at its first use."""

    def __init__(self, settings: MilvusSettings) -> None:
        self._settings = cast(MilvusSettings, Budgeted(settings))
        self._threads = Threads(_THREADS, stage="rows", dependency="milvus")
        self._connecting = threading.Lock()
        self._connected: MilvusClient | None = None
        self._writer: RowWriter | None = None
        self._searching: RowSearcher | None = None
        self._ensured: set[tuple[str, int]] = set()
        self._names = IndexNames(settings.milvus_collection_prefix)
        self._held = HeldIndexes()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            await self._threads.write(self._writer.close, "close")
        if self._searching is not None:
            await self._threads.write(self._searching.close, "close")
        if self._connected is not None:
            await self._threads.write(self._connected.close, "close")

    async def ensure(self, collection: str, dim: int) -> None:
        def make() -> None:
            client = self._client()
            found = self._names.find(client, collection, self._settings.milvus_timeout_s)
            if found is None:
                create_collection(client, self._names.new(collection), dim, self._settings)
            name = found or self._names.new(collection)
            ensure_index(client, name, dim, self._settings, self._ensured)
            self._held.forget(name)

        await self._threads.write(translated(make), "ensure")

    async def upsert(self, collection: str, pages: Sequence[PageVectors]) -> None:
        def write(_: MilvusClient, name: str) -> bool:
            self._rows().write(name, pages, self._settings.milvus_timeout_s)
            return True

        written = translated(lambda: self._on_existing(collection, write, unknown=False))
        if not await self._threads.write(written, "upsert"):
            raise WorkerFault(f"milvus has no index {collection!r}: it was dropped while pages were written to it")

    async def search(
        self,
        collection: str,
        query: Vectors,
        limit: int,
        *,
        stable_for_s: float = 0.0,
        within: Sequence[range] | None = None,
    ) -> Neighbours:
        if not len(query) or (within is not None and not within):
            return Neighbours.none(len(query))
        condition = "" if within is None else rows_within(within)
        rows_per_token = min(limit, _MAX_TOP_K)
        consistency: Consistency = "Bounded" if stable_for_s >= _BOUNDED_FROM_S else "Strong"

        @stamina.retry(on=is_lost, attempts=None, timeout=_LOST_S, wait_initial=0.05, wait_max=0.5)
        def find(client: MilvusClient, name: str) -> Neighbours:
            timeout_s = self._settings.milvus_timeout_s
            index_type = self._held.type_of(client, name, timeout_s) or self._settings.index_type
            parameters = search_parameters(index_type, rows_per_token, self._settings)
            try:
                found = self._searcher().search(
                    name,
                    query,
                    rows_per_token,
                    parameters=parameters,
                    consistency=consistency,
                    timeout_s=timeout_s,
                    output_fields=self._held.output_fields(client, timeout_s),
                    condition=condition,
                )
            except Exception:
                self._held.forget(name)  # another process may have made the collection again, with another index
                raise
            # The page key is part of the primary key.
            return Neighbours(found.keys // ROWS_PER_PAGE, found.products, found.counts)

        nothing = Neighbours.none(len(query))
        return await self._threads.read(
            translated(lambda: self._on_loaded(collection, find, unknown=nothing)), "search"
        )

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

        await self._threads.write(translated(lambda: self._on_loaded(collection, delete, unknown=None)), "delete")

    async def read_pages(self, collection: str, page_keys: range) -> dict[int, Vectors]:
        def read(client: MilvusClient, name: str) -> dict[int, Vectors]:
            rows = _rows_of(page_keys.start, len(page_keys))
            return read_rows(client, name, rows, self._settings.milvus_timeout_s)

        nothing: dict[int, Vectors] = {}
        return await self._threads.read(translated(lambda: self._on_loaded(collection, read, unknown=nothing)), "read")

    async def count_rows(self, collection: str, first_page_key: int, count: int) -> int:
        return await self._count(collection, _rows_of(first_page_key, count))

    async def count_rows_in(self, collection: str, page_keys: Sequence[range]) -> int:
        if not page_keys:
            return 0
        return await self._count(collection, _rows_of_all(page_keys))

    async def count(self, collection: str) -> int:
        return await self._count(collection, "")

    async def drop(self, collection: str) -> None:
        def drop() -> None:
            for name in self._names.all(collection):
                drop_with_aliases(self._client(), name, self._settings.milvus_timeout_s)
                self._held.forget(name)

        await self._threads.write(translated(drop), "drop")

    async def point(self, collection: str, index: str) -> None:
        def point(client: MilvusClient, name: str) -> bool:
            point_alias(client, self._names.new(collection), name, self._settings.milvus_timeout_s)
            return True

        pointed = translated(lambda: self._on_existing(index, point, unknown=False))
        if not await self._threads.write(pointed, "point"):
            raise WorkerFault(f"milvus has no index {index!r} to point {collection!r} to")

    async def pointed(self, collection: str) -> str | None:
        """The Milvus name of the index that `collection`, an index or an alias, stands for; None where it is none."""

        def pointed(client: MilvusClient, name: str) -> str:
            return str(client.describe_collection(name, timeout=self._settings.milvus_timeout_s)["collection_name"])

        return await self._threads.read(
            translated(lambda: self._on_existing(collection, pointed, unknown=None)), "pointed"
        )

    async def ping(self) -> None:
        await self._threads.read(translated(lambda: self._client().list_collections(timeout=_PING_TIMEOUT_S)), "ping")

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

        return await self._threads.read(translated(lambda: self._on_loaded(collection, count, unknown=0)), "count")

    def _client(self) -> MilvusClient:
        """The client, created once, in a thread: importing pymilvus takes most of a second."""
        with self._connecting:
            if self._connected is None:
                self._connected = connect(self._settings)
            return self._connected

    def _rows(self) -> RowWriter:
        """Created once, in a thread, as the client."""
        with self._connecting:
            if self._writer is None:
                self._writer = open_writer(self._settings)
            return self._writer

    def _searcher(self) -> RowSearcher:
        """Created once, in a thread, as the client."""
        with self._connecting:
            if self._searching is None:
                self._searching = open_searcher(self._settings)
            return self._searching

    def _on_existing(self, collection: str, request: Callable[[MilvusClient, str], T], unknown: T) -> T:
        """The result of `request`, which gets the Milvus name of the index; `unknown` where there is no such index."""
        return self._names.request(collection, lambda name: request(self._client(), name), unknown)

    def _on_loaded(self, collection: str, request: Callable[[MilvusClient, str], T], unknown: T) -> T:
        """As `_on_existing`; loads the collection where the server has unloaded it, as after a restart."""

        def loading(client: MilvusClient, name: str) -> T:
            try:
                return request(client, name)
            except Exception as error:
                if milvus_code(error) != NOT_LOADED:
                    raise
                client.load_collection(name, timeout=self._settings.milvus_timeout_s)
                return request(client, name)

        return self._on_existing(collection, loading, unknown)


def rows_within(page_keys: Sequence[range]) -> str:
    """The filter for every row of these pages. The server checks a list of keys at once, and ranges one by one."""
    if len(page_keys) <= _MOST_RANGES:
        return _rows_of_all(page_keys)
    return f"page_key in [{','.join(str(key) for keys in page_keys for key in keys)}]"


def _rows_of_all(page_keys: Sequence[range]) -> str:
    return " or ".join(f"({_rows_of(keys.start, len(keys))})" for keys in page_keys)


def _rows_of(first_page_key: int, count: int) -> str:
    """The filter for every row of `count` pages."""
    return f"pk >= {first_page_key * ROWS_PER_PAGE} and pk < {(first_page_key + count) * ROWS_PER_PAGE}"
