"""Where on a page a query matches: a heat map of its image for visual embedders, and the words that match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ingestion.catalogue.generations import Generation
from ingestion.errors import (
    BadRequest,
    NoPatchGrid,
    NotFound,
    NoWordBoxes,
    Overloaded,
    PooledVectors,
    WorkerFault,
)
from ingestion.model import Document, DocumentState, PageRecord, check_text
from ingestion.ports import Bindings, BlobStore, EmbedderChoice
from ingestion.search.cpu_threads import CpuThreads
from ingestion.vectors.blob import open_blob
from ingestion.vectors.blob_reader import VectorBlobRef, VectorBlobs
from ingestion.viewing.heat import boxes_picture, heat_of, heat_picture
from ingestion.viewing.patch_grid import most_tokens, patch_grid
from ingestion.words.boxes import decode_words
from ingestion.words.matching import Match, matches_of

_MAX_QUERY_CHARS: Final = 4000
_AT_ONCE: Final = 32
_THREADS: Final = 2
_RETRY_S: Final = 1
_TRIES: Final = 2

PictureKind = Literal["auto", "heat", "words"]
Missing = NoPatchGrid | PooledVectors | NoWordBoxes
"""Why a part of the highlights is not there."""


@dataclass(frozen=True, slots=True)
class Highlights:
    """`heat` is (rows, columns) from 0 to 1. A part that is None has its cause in `missing`."""

    heat: NDArray[np.float32] | None
    words: Sequence[Match] | None
    missing: Sequence[Missing]


class Highlighter:
    """Safe to use from many tasks at once: at most _AT_ONCE, others are refused."""

    def __init__(self, *, embedder: EmbedderChoice, collections: Bindings, blobs: BlobStore) -> None:
        self._embedder = embedder
        self._collections = collections
        self._blobs = VectorBlobs(blobs)
        self._cpu_threads = CpuThreads(_THREADS)
        self._running = 0

    async def highlights(self, document: Document, page: PageRecord, query: str) -> Highlights:
        """Where `query` matches on a page, which must have been read with its words.

        Raises BadRequest, Overloaded, DependencyUnavailable, EmbedderMismatch, WorkerFault.
        """
        check_text(query, "the query")
        if not query.strip() or len(query) > _MAX_QUERY_CHARS:
            raise BadRequest(f"the query has {len(query.strip())} characters; 1 to {_MAX_QUERY_CHARS} are accepted")
        with self._admitted():
            missing = list[Missing]()
            heat, words = None, None
            try:
                words = await self._words(page, query)
            except NoWordBoxes as error:
                missing.append(error)
            try:
                heat = await self._heat(document, page, query)
            except (NoPatchGrid, PooledVectors) as error:
                missing.append(error)
            return Highlights(heat, words, missing)

    async def picture(self, found: Highlights, kind: PictureKind, width_px: int, height_px: int) -> bytes:
        """A PNG to lay over the page. `auto` is the heat map where there is one.

        Raises the cause that `found` has for a missing part.
        """
        if found.heat is not None and kind != "words":
            return await self._cpu_threads.run(heat_picture, found.heat, width_px, height_px)
        if found.words is not None and kind != "heat":
            boxes = [match.box for match in found.words]
            return await self._cpu_threads.run(boxes_picture, boxes, width_px, height_px)
        raise next(cause for cause in found.missing if isinstance(cause, NoWordBoxes) == (kind == "words"))

    async def _words(self, page: PageRecord, query: str) -> list[Match]:
        """Raises NoWordBoxes."""
        if not page.words:
            cause = "has no text" if not page.text.strip() else "has no boxes of words: upload the file again for them"
            raise NoWordBoxes(f"page {page.page_number} {cause}")
        try:
            return await self._cpu_threads.run(lambda: matches_of(query, decode_words(page.words)))
        except ValueError as error:
            raise NoWordBoxes(f"the boxes of page {page.page_number} cannot be read: {error}") from error

    async def _heat(self, document: Document, page: PageRecord, query: str) -> NDArray[np.float32]:
        """Raises NoPatchGrid, PooledVectors."""
        if document.state is not DocumentState.READY:
            raise NoPatchGrid(f"the document is {document.state.value}; a heat map needs it to be ready")
        generation, blob = await self._vectors(document, page)
        most = most_tokens(generation.fingerprint)
        try:
            grid = patch_grid(most, page.width_px, page.height_px, len(open_blob(blob)))
        except ValueError as error:
            raise WorkerFault(f"the vectors of a page cannot be read: {error}") from error
        embedder = await self._embedder.for_fingerprint(generation.fingerprint)
        [vectors] = await embedder.embed_queries([query])
        if not len(vectors):
            return np.zeros((grid.rows, grid.columns), np.float32)
        try:
            return await self._cpu_threads.run(heat_of, vectors, blob, grid)
        except ValueError as error:
            raise WorkerFault(f"the vectors of a page cannot be read: {error}") from error

    async def _vectors(self, document: Document, page: PageRecord) -> tuple[Generation, bytes]:
        """Raises NoPatchGrid, PooledVectors, NotFound."""
        for _ in range(_TRIES):
            bound = await self._collections.binding(document.collection)
            if bound is None:
                break
            most_tokens(bound.current.fingerprint)  # before anything is read
            with suppress(NotFound):  # where the collection has just switched to another embedder
                [blob] = await self._blobs.read([VectorBlobRef(document.id, page.page_number, bound.current.number)])
                return bound.current, blob
        raise NoPatchGrid("the page has no vectors")

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._running >= _AT_ONCE:
            raise Overloaded("the maker of highlights", _RETRY_S)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
