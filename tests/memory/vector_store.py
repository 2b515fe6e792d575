"""The vector store: exact inner products over all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingestion.errors import EmbedderMismatch, WorkerFault
from ingestion.model import ROWS_PER_PAGE, PageVectors, Vectors
from ingestion.ports import Neighbours


@dataclass(slots=True)
class _Index:
    dim: int
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    """By primary key, which is `page_key * ROWS_PER_PAGE + patch`."""


class MemoryVectorStore:
    """VectorStore. `pointers` is open to tests: the index that each collection's name leads to."""

    def __init__(self) -> None:
        self._indexes: dict[str, _Index] = {}
        self.pointers: dict[str, str] = {}

    async def ensure(self, collection: str, dim: int) -> None:
        index = self._indexes.setdefault(collection, _Index(dim))
        if index.dim != dim:
            raise EmbedderMismatch(f"index {collection!r} has {index.dim} dimensions, not {dim}")

    async def upsert(self, collection: str, pages: Sequence[PageVectors]) -> None:
        index = self._indexes.get(collection)
        if index is None:
            raise WorkerFault(f"there is no index {collection!r}")
        if any(len(page.vectors) > ROWS_PER_PAGE for page in pages):
            raise WorkerFault(f"a page has more than {ROWS_PER_PAGE} vectors")
        for page in pages:
            for patch, row in enumerate(page.vectors):
                index.rows[page.page_key * ROWS_PER_PAGE + patch] = np.array(row, np.float32)

    async def search(
        self,
        collection: str,
        query: Vectors,
        limit: int,
        *,
        stable_for_s: float = 0.0,
        within: Sequence[range] | None = None,
    ) -> Neighbours:
        index = self._indexes.get(collection)
        rows = {} if index is None else index.rows
        if within is not None:
            rows = {key: row for key, row in rows.items() if any(key // ROWS_PER_PAGE in keys for keys in within)}
        if not rows:
            return Neighbours.none(len(query))
        keys = np.array(list(rows), np.int64) // ROWS_PER_PAGE
        scores = query @ np.stack(list(rows.values())).T  # (tokens, rows)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :limit]
        return Neighbours(
            keys[best].ravel(),
            np.take_along_axis(scores, best, axis=1).ravel().astype(np.float32),
            np.full(len(query), best.shape[1], np.int64),
        )

    async def delete_pages(self, collection: str, first_page_key: int, count: int) -> None:
        for primary_key in self._keys(collection, range(first_page_key, first_page_key + count)):
            del self._indexes[collection].rows[primary_key]

    async def read_pages(self, collection: str, page_keys: range) -> dict[int, Vectors]:
        rows: dict[int, list[NDArray[np.float32]]] = {}
        for primary_key in sorted(self._keys(collection, page_keys)):
            row = self._indexes[collection].rows[primary_key]
            rows.setdefault(primary_key // ROWS_PER_PAGE, []).append(row)
        return {key: np.stack(vectors) for key, vectors in rows.items()}

    async def count_rows(self, collection: str, first_page_key: int, count: int) -> int:
        return len(self._keys(collection, range(first_page_key, first_page_key + count)))

    async def count_rows_in(self, collection: str, page_keys: Sequence[range]) -> int:
        return sum(len(self._keys(collection, keys)) for keys in page_keys)

    async def count(self, collection: str) -> int:
        index = self._indexes.get(collection)
        return 0 if index is None else len(index.rows)

    async def drop(self, collection: str) -> None:
        self._indexes.pop(collection, None)

    async def point(self, collection: str, index: str) -> None:
        self.pointers[collection] = index

    async def ping(self) -> None: ...

    def _keys(self, collection: str, page_keys: range) -> list[int]:
        index = self._indexes.get(collection)
        return [] if index is None else [key for key in index.rows if key // ROWS_PER_PAGE in page_keys]
