"""Objects and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ingestion.model import PageVectors, Vectors
from ingestion.ports.inventory import BlobInventory, RowInventory
from ingestion.ports.neighbours import Neighbours


class BlobStore(BlobInventory, Protocol):
    """The object store. Keys are made by `ingestion.model`. Writing or deleting twice is the same as once."""

    async def put(self, key: str, data: bytes, content_type: str) -> None: ...

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        """Store a file without holding it in memory."""

    async def get(self, key: str) -> bytes:
        """Raises NotFound."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Fetch concurrently, in the order of `keys`. Raises NotFound if one is missing."""

    async def fetch_file(self, key: str, path: Path) -> None:
        """Write the object to `path` without holding it in memory. Raises NotFound."""

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every object under `prefix`. Returns their number."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects. A missing one is no error."""

    async def list_keys(self, prefix: str) -> list[str]: ...

    async def presign(self, key: str, expires_s: int) -> str:
        """A URL that reads the object without credentials for `expires_s` seconds. Makes no request."""

    async def prove(self) -> None:
        """Write and delete a small object. Raises DependencyUnavailable if the server cannot."""

    async def ping(self) -> None: ...


class VectorStore(RowInventory, Protocol):
    """One ANN index per document collection. All writes are by primary key: doing them twice is the same as once."""

    async def ensure(self, collection: str, dim: int) -> None:
        """Create the collection and its index if they are missing. An index that exists stays as it is.

        Raises EmbedderMismatch if it exists with another dimension, and IndexUnsupported.
        """

    async def upsert(self, collection: str, pages: Sequence[PageVectors]) -> None:
        """Write the rows of `pages`, row `patch` of a page under `page_key * ROWS_PER_PAGE + patch`."""

    async def search(
        self,
        collection: str,
        query: Vectors,
        limit: int,
        *,
        stable_for_s: float = 0.0,
        within: Sequence[range] | None = None,
    ) -> Neighbours:
        """Return the `limit` nearest rows of each query token, in one request.

        `within`: ranges of page keys. The index looks only at rows of these pages. None: at all rows.

        The result may lack rows that were written less than `stable_for_s` seconds ago, and no others.
        An unknown collection gives no rows.
        """

    async def delete_pages(self, collection: str, first_page_key: int, count: int) -> None:
        """Remove every row of `count` pages from `first_page_key` on. An unknown collection is no error."""

    async def read_pages(self, collection: str, page_keys: range) -> dict[int, Vectors]:
        """Return the rows by page key: (rows, dim) float32, in the order of patches. Pages without rows are left out.

        All rows are in memory at once, so ask for few pages. Strongly consistent.
        """

    async def count_rows(self, collection: str, first_page_key: int, count: int) -> int:
        """Return the number of rows of these pages, strongly consistent."""

    async def count(self, collection: str) -> int:
        """Return the number of rows of the collection, 0 if it is unknown."""

    async def drop(self, collection: str) -> None:
        """Remove the collection. An unknown one is no error."""

    async def point(self, collection: str, index: str) -> None:
        """Make `index` known under the name of `collection`, too. The collection must have no index of its own.

        Twice is safe.
        """

    async def ping(self) -> None: ...
