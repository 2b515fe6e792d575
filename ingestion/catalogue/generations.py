"""Which embedder a collection's vectors are of, and how one set of vectors takes the place of another.

A collection's vectors are a *generation*: an ANN index, and a blob for each page, all of one embedder. The first has
the number 1. A re-embedding writes the next one beside it, and the collection's record says which one is searched.
Numbers are never used again within a collection, so that what a forgotten process still writes to an abandoned
generation reaches no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingestion.errors import EmbedderMismatch, EmbedderNotCurrent

FIRST: Final = 1


@dataclass(frozen=True, slots=True)
class Generation:
    """One set of vectors of a collection. `fingerprint` and `dim` are its embedder's."""

    number: int
    fingerprint: str
    dim: int


@dataclass(frozen=True, slots=True)
class Binding:
    """What the record of a collection says of its vectors.

    `current` is searched, and written to by workers. `next`, while there is one, is being written by a re-embedding.
    `is_closing` is true shortly before it takes over: no worker may begin with `current` any more. Those in `leaving`
    are no longer in use and being removed. `retired` are the fingerprints that the collection was bound to before.
    """

    collection: str
    current: Generation
    next: Generation | None = None
    is_closing: bool = False
    leaving: tuple[Generation, ...] = ()
    retired: frozenset[str] = frozenset()

    @property
    def generations(self) -> tuple[Generation, ...]:
        """All that may have vectors, the one that is searched first."""
        coming = () if self.next is None else (self.next,)
        return (self.current, *coming, *self.leaving)

    def require_current(self, fingerprint: str, dim: int) -> None:
        """Whether this embedder may fill the collection now.

        Raises EmbedderNotCurrent where it has filled it before, or will, or where nobody may at the moment, and
        EmbedderMismatch for any other.
        """
        name, current, coming = self.collection, self.current, self.next
        if (fingerprint, dim) == (current.fingerprint, current.dim):
            if self.is_closing:
                raise EmbedderNotCurrent(f"collection {name} is about to pass from {fingerprint} to another embedder")
            return
        if fingerprint in self.retired or (coming is not None and fingerprint == coming.fingerprint):
            raise EmbedderNotCurrent(f"collection {name} is filled by {current.fingerprint} now, not by {fingerprint}")
        raise EmbedderMismatch(
            f"collection {name} holds vectors of {current.fingerprint} with {current.dim} dimensions, "
            f"not of {fingerprint} with {dim}"
        )

    @property
    def indexes(self) -> tuple[str, ...]:
        """What the vector store calls them."""
        return tuple(index_of(self.collection, generation.number) for generation in self.generations)


@dataclass(frozen=True, slots=True)
class GenerationTotals:
    """How far a generation has come: of all pages of ready documents, and of all ready documents."""

    documents: int
    documents_done: int
    pages: int
    pages_done: int


@dataclass(frozen=True, slots=True)
class PageSize:
    """What a page comes to in one generation: vectors in its blob, and rows in the ANN index."""

    page_key: int
    patches: int
    rows: int


def index_of(collection: str, generation: int) -> str:
    """What the vector store calls a generation of a collection: no collection can have a name with '@' in it."""
    return collection if generation == FIRST else f"{collection}@g{generation}"
