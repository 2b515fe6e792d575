"""The generations of a collection's vectors: the current one, the coming one and those that leave."""

from __future__ import annotations

from typing import Protocol

from ingestion.catalogue.generations import Binding


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
