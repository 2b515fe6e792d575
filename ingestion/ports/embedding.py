"""Embedders of pages and queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ingestion.model import Page, Vectors


class Embedder(Protocol):
    """Pages and queries to multi-vectors. A page's vectors do not depend on what shares its batch."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the vectors would: model, revision, precision, preprocessing."""

    @property
    def dim(self) -> int: ...

    @property
    def wants_pixels(self) -> bool:
        """True where `embed_pages` looks at `Page.pixels`; False where the text layer is enough."""

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """One (tokens, dim) float32 array per page, in order, rows of unit length, 1 to ROWS_PER_PAGE rows,
        except that a text embedder returns 0 rows for a page without a text layer."""

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        """One (tokens, dim) float32 array per query, in order, rows of unit length."""


class Activity(Protocol):
    """The operations of an embedder: batches, pages or requests."""

    @property
    def completed(self) -> int:
        """Changes whenever an operation ends. Compare values for change only."""

    @property
    def oldest(self) -> object:
        """A token of the oldest operation that a thread of this process runs, the same object while it runs.

        None while idle, and always where another process does the work.
        """


@runtime_checkable
class WatchableEmbedder(Protocol):
    """An embedder whose progress a watchdog can see."""

    @property
    def activity(self) -> Activity: ...


@runtime_checkable
class EmbeddingServer(Protocol):
    """An embedder that works in another process."""

    async def prove(self) -> None:
        """Have something small embedded. Raises DependencyUnavailable, WorkerFault."""


class EmbedderChoice(Protocol):
    """Embedders of queries, one for each sort of vectors."""

    async def for_fingerprint(self, fingerprint: str) -> Embedder:
        """The one that embeds with that model.

        Raises EmbedderMismatch where there is none, DependencyUnavailable where there is none among those that answer.
        """
