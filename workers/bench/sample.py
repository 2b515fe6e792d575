"""The sample of a measurement: vectors of a collection's pages, and queries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ingestion.catalogue.generations import FIRST
from ingestion.errors import BadRequest
from ingestion.model import Document, DocumentState, Page, PageVectors, Vectors
from ingestion.ports import Bindings, BlobStore, DocumentReader
from ingestion.vectors.blob import decode_blob
from ingestion.vectors.blob_reader import VectorBlobRef, VectorBlobs
from ingestion.vectors.encoding import VectorEncoding

TOKENS_PER_QUERY: Final = 16
"""Vectors of a query. A question of a dozen words has about as many, and a search sends them in one request."""

_HELD_OUT_EVERY: Final = 20
_DOCUMENTS_AT_ONCE: Final = 100
_BLOBS_AT_ONCE: Final = 32


class SampleRecords(DocumentReader, Bindings, Protocol):
    """The records of the stored vectors."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The page key is the position in `pages`. Each query is (tokens, dim); the index does not contain it."""

    pages: Sequence[PageVectors]
    queries: Sequence[Vectors]

    @property
    def rows(self) -> int:
        return sum(len(page.vectors) for page in self.pages)

    @property
    def dim(self) -> int:
        return int(self.pages[0].vectors.shape[1])


async def read_pages(records: SampleRecords, blobs: BlobStore, collection: str, most: int) -> list[Vectors]:
    """Return the stored vectors of at most `most` pages of ready documents, evenly spaced over the collection.

    Raises BadRequest if there are fewer than two pages, DependencyUnavailable.
    """
    bound = await records.binding(collection)
    generation = FIRST if bound is None else bound.current.number
    page_numbers = [
        (document.id, number)
        async for document in _ready(records, collection)
        if document.is_in(generation)
        for number in range(1, document.pages + 1)
    ]
    refs = [VectorBlobRef(*page_numbers[index], generation) for index in _evenly_spaced(len(page_numbers), most)]
    vector_blobs = VectorBlobs(blobs)
    pages: list[Vectors] = []
    for start in range(0, len(refs), _BLOBS_AT_ONCE):
        found = await vector_blobs.read(refs[start : start + _BLOBS_AT_ONCE])
        pages += [vectors for vectors in map(decode_blob, found) if len(vectors)]
    if len(pages) < 2:
        raise BadRequest(f"collection {collection!r} has {len(pages)} ready pages with vectors; at least 2 are needed")
    return pages


def hold_out(pages: Sequence[Vectors], most_queries: int) -> tuple[list[Vectors], list[Vectors]]:
    """Return the pages to index, and queries: runs of vectors of every 20th page, which is not indexed.

    Vectors of a page are nearer to those of other pages than vectors of a question. So questions have less recall.
    """
    held_out = [page for number, page in enumerate(pages) if number % _HELD_OUT_EVERY == 1]
    queries = [query for page in held_out for query in _runs(page)]
    kept = [page for number, page in enumerate(pages) if number % _HELD_OUT_EVERY != 1]
    return kept, [queries[index] for index in _evenly_spaced(len(queries), most_queries)]


def sample_of(pages: Sequence[Vectors], queries: Sequence[Vectors], encoding: VectorEncoding) -> Sample:
    """Return the sample with the rows that the index would hold."""
    nothing = Page(page_number=1, width_px=1, height_px=1, image=b"", text="")
    return Sample([encoding.rows(PageVectors(nothing, key, page)) for key, page in enumerate(pages)], queries)


def _evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` positions, evenly spaced."""
    taken = min(count, most)
    return [step * count // taken for step in range(taken)]


def _runs(page: Vectors) -> Iterator[Vectors]:
    for start in range(0, len(page), TOKENS_PER_QUERY):
        yield page[start : start + TOKENS_PER_QUERY]


async def _ready(records: SampleRecords, collection: str) -> AsyncIterator[Document]:
    after: str | None = None
    while batch := await records.list(collection, limit=_DOCUMENTS_AT_ONCE, after=after):
        for document in batch:
            if document.state is DocumentState.READY:
                yield document
        after = batch[-1].id
