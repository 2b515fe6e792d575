"""The generations of a collection's vectors, and the embedder of each one.

A *generation* is one ANN index and one blob for each page, all from one embedder. The first generation has the number
1. A re-embedding writes the next generation beside it. The collection's record says which one is searched. A
collection never uses a number twice, so that a late write to an abandoned generation reaches no other generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingestion.errors import EmbedderMismatch, EmbedderNotCurrent

FIRST: Final = 1


@dataclass(frozen=True, slots=True)
class Generation:
    """One set of vectors of a collection. `fingerprint` and `dim` describe its embedder."""

    number: int
    fingerprint: str
    dim: int


@dataclass(frozen=True, slots=True)
class Binding:
    """The generations in a collection's record.

    Searches read `current`, and workers write to it. A re-embedding writes to `next`; without one it is None.
    `is_closing` is true shortly before `next` becomes `current`: no worker may then begin to write to `current`. The
    generations in `leaving` are unused and are being removed. `retired` holds the fingerprints of former embedders.
    """

    collection: str
    current: Generation
    next: Generation | None = None
    is_closing: bool = False
    leaving: tuple[Generation, ...] = ()
    retired: frozenset[str] = frozenset()

    @property
    def generations(self) -> tuple[Generation, ...]:
        """All generations that may have vectors. The first one is `current`."""
        return (*self.live, *self.leaving)

    @property
    def live(self) -> tuple[Generation, ...]:
        """The generations that are searched or filled: all but those that are being removed."""
        return (self.current,) if self.next is None else (self.current, self.next)

    def require_current(self, fingerprint: str, dim: int) -> None:
        """Check that this embedder may write to the collection now.

        Raises EmbedderNotCurrent for a former or the next embedder, and shortly before a switch for the current one.
        Raises EmbedderMismatch for any other embedder.
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
        """The names of the generations in the vector store."""
        return tuple(index_of(self.collection, generation.number) for generation in self.generations)


@dataclass(frozen=True, slots=True)
class GenerationTotals:
    """The progress of a generation: the ready documents, those in the generation, and the same for pages."""

    documents: int
    documents_done: int
    pages: int
    pages_done: int


@dataclass(frozen=True, slots=True)
class PageSize:
    """The size of a page in one generation: `patches` vectors in its blob, `rows` in the ANN index."""

    page_key: int
    patches: int
    rows: int


def index_of(collection: str, generation: int) -> str:
    """Return a generation's name in the vector store. It is no collection's name: those cannot contain '@'."""
    return collection if generation == FIRST else f"{collection}@g{generation}"
