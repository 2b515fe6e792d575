"""An index for measurements: a collection of its own on the configured Milvus, whose index is built repeatedly.

Synchronous, and for one thread. Exceptions of the client library are translated.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingestion.adapters.milvus.connection import connect, open_searcher, open_writer
from ingestion.adapters.milvus.errors import translated
from ingestion.adapters.milvus.held_indexes import HeldIndexes
from ingestion.adapters.milvus.index_types import search_parameters
from ingestion.adapters.milvus.schema import VECTOR, create_collection, create_index
from ingestion.model import PageVectors, Vectors
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")

_SUFFIX: Final = "scratch"
"""After the prefix. No index of a document collection begins like that: see `index_name`."""
_FORGOTTEN_S: Final = 86_400
_BUILD_TIMEOUT_S: Final = 3600.0
_PAUSE_S: Final = 0.05
_NO_ROW: Final = -1


class ScratchIndex:
    """A context manager: creates an empty collection, and drops it at the end, also after an error.

    A signal handler must not raise while this class is used: gRPC would not notice the end of the request that was cut
    off, and the close of its channel would wait for it forever. `check_stop` is the place for that.

    A collection that a killed run has left on the server is dropped by the first run a day later.
    """

    def __init__(self, settings: MilvusSettings, dim: int, check_stop: Callable[[], None] = lambda: None) -> None:
        """`check_stop` is called before each request but those that drop the collection. It may raise."""
        self._settings = settings.model_copy(update={"milvus_timeout_s": _BUILD_TIMEOUT_S})
        self._dim = dim
        self._check_stop = check_stop
        self._prefix = f"{settings.milvus_collection_prefix}{_SUFFIX}"
        self._name = f"{self._prefix}_{int(time.time())}_{secrets.token_hex(4)}"
        self._rows = 0
        self._is_indexed = False
        self._built = self._settings
        self._held = HeldIndexes()

    def __enter__(self) -> Self:
        self._client = self._translated(lambda: connect(self._settings))
        self._writer = open_writer(self._settings)
        self._searcher = open_searcher(self._settings)
        try:
            self._translated(self._drop_forgotten)
            self._translated(lambda: create_collection(self._client, self._name, self._dim, self._settings))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            translated(lambda: _drop(self._client, self._name))()
        finally:
            self._close()

    def insert(self, pages: Sequence[PageVectors]) -> None:
        """Add the rows of `pages`. Only before the first `build`."""
        self._translated(lambda: self._writer.write(self._name, pages, _BUILD_TIMEOUT_S))
        self._rows += sum(len(page.vectors) for page in pages)

    def unload(self) -> None:
        """Make the server drop the index, also from memory."""
        self._translated(lambda: self._client.release_collection(self._name, timeout=_BUILD_TIMEOUT_S))
        if self._is_indexed:
            self._translated(lambda: self._client.drop_index(self._name, VECTOR, timeout=_BUILD_TIMEOUT_S))
        self._is_indexed = False

    def build(self, settings: MilvusSettings) -> float:
        """Make the index that `settings` name over all rows, load it, and return the seconds that this took.

        Raises IndexUnsupported.
        """
        self._translated(lambda: self._client.flush(self._name, timeout=_BUILD_TIMEOUT_S))
        self.unload()
        own = settings.model_copy(update={"milvus_timeout_s": _BUILD_TIMEOUT_S})
        self._built = own
        started = time.perf_counter()
        self._translated(lambda: create_index(self._client, self._name, own))
        self._is_indexed = True
        self._translated(self._await_index)
        self._translated(lambda: self._client.load_collection(self._name, timeout=_BUILD_TIMEOUT_S))
        return time.perf_counter() - started

    def search(self, queries: Vectors, limit: int, ef: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Primary keys and inner products of the `limit` nearest rows, (queries, limit) each, in one request.

        `ef` counts for HNSW and HNSW_SQ. Other types are searched as the settings of `build` say.

        Where fewer are found, the keys end in -1 and the products in -inf.
        """
        found = self._translated(
            lambda: self._searcher.search(
                # Everything was there before the index was: waiting for writes, 200 ms of them, would hide the search.
                self._name,
                queries,
                limit,
                parameters=self._parameters(limit, ef),
                consistency="Eventually",
                timeout_s=_BUILD_TIMEOUT_S,
                output_fields=self._held.output_fields(self._client, _BUILD_TIMEOUT_S),
            )
        )
        keys = np.full((len(queries), limit), _NO_ROW, np.int64)
        products = np.full((len(queries), limit), -np.inf, np.float32)
        is_found = np.arange(limit) < found.counts[:, None]  # (queries, limit)
        keys[is_found], products[is_found] = found.keys, found.products
        return keys, products

    def _parameters(self, limit: int, ef: int) -> dict[str, object]:
        own = self._built.model_copy(update={"hnsw_ef": ef})
        return search_parameters(own.index_type, limit, own)

    def _await_index(self) -> None:
        """Milvus Lite builds while it loads; a real server in the background, and segments it merges once more.

        Rows that wait to be indexed are not looked at: Milvus 2.3 goes on counting those of segments it has merged.
        """
        while True:
            state = self._client.describe_index(self._name, VECTOR, timeout=_BUILD_TIMEOUT_S)
            if state["state"] == "Finished" and int(state["indexed_rows"]) >= self._rows:
                return
            time.sleep(_PAUSE_S)

    def _drop_forgotten(self) -> None:
        for name in self._client.list_collections(timeout=_BUILD_TIMEOUT_S):
            made = re.fullmatch(rf"{self._prefix}_(\d+)_[0-9a-f]+", name)
            if made and time.time() - int(made[1]) > _FORGOTTEN_S:
                _drop(self._client, name)

    def _close(self) -> None:
        self._writer.close()
        self._searcher.close()
        self._client.close()

    def _translated(self, request: Callable[[], T]) -> T:
        self._check_stop()
        return translated(request)()


def _drop(client: MilvusClient, name: str) -> None:
    client.release_collection(name, timeout=_BUILD_TIMEOUT_S)
    client.drop_collection(name, timeout=_BUILD_TIMEOUT_S)
