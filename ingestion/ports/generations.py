"""The generations of a collection's vectors: the current one, the coming one and those that leave."""

from __future__ import annotations

from typing import Protocol

from ingestion.catalogue.generations import Binding


class Generations(Protocol):
    """Unless a docstring says otherwise, a method that takes a generation's number changes nothing and raises
    Conflict if that is not the coming generation of the collection."""

    async def begin_generation(self, collection: str, fingerprint: str, dim: int) -> Binding:
        """Begin a generation of that embedder, or continue the one that was begun, and open the collection.

        Raises NotFound for an unknown collection, Conflict if a generation of another embedder was begun.
        """

    async def close_generation(self, collection: str, generation: int) -> str:
        """Let no worker begin a document in the current generation. Returns the token that a switch needs."""

    async def open_generation(self, collection: str, closing: str) -> None:
        """Undo `close_generation`. No effect if the collection was closed or opened again since."""

    async def switch_generation(self, collection: str, generation: int, closing: str, rest_ms: int) -> Binding:
        """Make the coming generation the current one. The former one leaves, and is kept for `rest_ms`.

        One compare-and-set. Raises Conflict if the collection has been opened since `closing`.
        """

    async def abandon_generation(self, collection: str) -> Binding:
        """Let the coming generation leave, if there is one. Raises NotFound for an unknown collection."""

    async def rest_of_leaving_s(self, collection: str) -> float:
        """Return for how long leaving generations must still be kept, by the database's clock."""

    async def forget_leaving(self, collection: str, generation: int) -> None:
        """Forget a leaving generation after all of it was removed. Twice is safe."""
