"""The generations of collections' vectors, and the records that a re-embedding keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestion.catalogue.generations import Binding, GenerationTotals
from ingestion.model import Document


class Bindings(Protocol):
    """Which embedder fills a collection."""

    async def binding(self, collection: str) -> Binding | None:
        """What the collection is bound to now, None before its first page."""

    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> Binding:
        """Remember which embedder fills the collection, where it is new; what it is bound to.

        Raises EmbedderNotCurrent where this one has filled it before, or will, or where nobody may at the moment, and
        EmbedderMismatch for any other, CollectionArchived where the collection is not active.
        """


class Generations(Protocol):
    """A method that takes a generation's number does nothing and raises Conflict where that is no longer the coming
    one of the collection, unless it says otherwise."""

    async def begin_generation(self, collection: str, fingerprint: str, dim: int) -> Binding:
        """Make room for a generation of that embedder, or find the one that was begun for it, and open.

        Raises NotFound for an unknown collection, Conflict where another embedder's generation has been begun.
        """

    async def close_generation(self, collection: str, generation: int) -> str:
        """From now on no worker begins a document in the current generation. Returns what a switch has to show."""

    async def open_generation(self, collection: str, closing: str) -> None:
        """Take `close_generation` back. No effect where it was closed, or opened, again since."""

    async def switch_generation(self, collection: str, generation: int, closing: str, rest_ms: int) -> Binding:
        """The coming generation becomes the current one, the current one leaves and is left alone for `rest_ms`.

        One compare-and-set. Raises Conflict where the collection has been opened since `closing`.
        """

    async def abandon_generation(self, collection: str) -> Binding:
        """The coming generation, if there is one, leaves. Raises NotFound for an unknown collection."""

    async def rest_of_leaving_s(self, collection: str) -> float:
        """For how long generations that leave are to be left alone yet, by the database's clock."""

    async def forget_leaving(self, collection: str, generation: int) -> None:
        """Nothing of this leaving generation exists any more. Twice is safe."""


class ReembeddingRecords(Protocol):
    """How far the documents of a collection have come into the next generation."""

    async def missing_from(self, collection: str, generation: int, *, after: str, limit: int) -> Sequence[Document]:
        """Ready documents that are not completely in the generation, in the order of their ids, from after `after`."""

    async def generation_totals(self, collection: str, generation: int) -> GenerationTotals: ...

    async def advance(self, document: Document, generation: int, pages_done: int) -> None:
        """Pages up to `pages_done` of a ready document are in the coming generation, or, with 0, none is.

        Raises Conflict where the document is no longer ready, is gone, or was uploaded anew.
        """

    async def settle(self, document: Document, current: int) -> None:
        """The document's records speak of generation `current` alone, where all of it is there; else of its own."""

    async def fence_off(self, collection: str) -> Sequence[Document]:
        """Every document that is being processed becomes `queued` under a new fence, with the outbox pending; the
        attempt is not counted. Whoever works on it finds its lease lost."""
