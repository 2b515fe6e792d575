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


class Steps(Protocol):
    """What an embedder is at."""

    @property
    def done(self) -> int:
        """Changes with each batch, page or request that is done with."""

    @property
    def oldest(self) -> object:
        """The same object for as long as a thread of this process is at the same step, the oldest under way.

        None while there is none, and always where the work is done in another process.
        """


@runtime_checkable
class WatchableEmbedder(Protocol):
    """An embedder that can be seen to get on, or to hang."""

    @property
    def steps(self) -> Steps: ...


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
