"""Exact MaxSim over every page of a collection, for those who check what a search finds."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final

from ingestion import metrics
from ingestion.catalogue.generations import Generation
from ingestion.concurrency.tasks import map_ordered
from ingestion.errors import NotFound, WorkerFault
from ingestion.maxsim import maxsim_of_blobs
from ingestion.model import Vectors
from ingestion.ports import BlobStore, DocumentReader, PageRange, Searchable
from ingestion.search.candidates import Candidate
from ingestion.search.collection_pages import CollectionPages
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.stages import search_stage
from ingestion.vectors.blob_reader import VectorBlobRef, VectorBlobs

_PAGES_AT_ONCE: Final = 32
_READS: Final = 3
"""Groups of pages that are read or scored at a time: about 24 MB."""

_Page = tuple[PageRange, int]
"""A document and a page number, from 1."""


class ExhaustiveScorer:
    """Reads all vectors of a collection from the object store, a group of pages at a time, and keeps none of them."""

    def __init__(self, blobs: BlobStore, documents: DocumentReader, cpu_threads: CpuThreads) -> None:
        self._vector_blobs = VectorBlobs(blobs)
        self._documents = documents
        self._cpu_threads = cpu_threads

    async def best(
        self, view: Searchable, pages: CollectionPages, query: Vectors, top_k: int
    ) -> list[tuple[Candidate, float]]:
        """The `top_k` best pages of all, best first.

        Raises DependencyUnavailable, WorkerFault where the vectors of a ready page are missing or unreadable.
        """
        generation = view.binding.current
        best: list[tuple[float, int, PageRange, int]] = []

        async def score(group: Sequence[_Page]) -> list[tuple[float, int, PageRange, int]]:
            return await self._scored(group, query, generation)

        async with aclosing(map_ordered(score, _groups(pages.ranges), width=_READS)) as scored:
            async for found in scored:
                best = heapq.nlargest(top_k, [*best, *found], key=lambda one: (one[0], -one[1]))
        documents = await self._documents.ready_documents({one[2].document_id for one in best})
        return [
            (Candidate(key, number, document), score)
            for score, key, page, number in best
            if (document := documents.get(page.document_id)) is not None and key in document.page_keys
        ]

    async def _scored(
        self, group: Sequence[_Page], query: Vectors, generation: Generation
    ) -> list[tuple[float, int, PageRange, int]]:
        try:
            blobs = await self._read(group, generation)
        except NotFound:  # a document was deleted since the pages were listed
            ready = await self._documents.ready_documents({page.document_id for page, _ in group})
            group = [
                (page, number)
                for page, number in group
                if (document := ready.get(page.document_id)) and document.first_page_key == page.first_page_key
            ]
            try:
                blobs = await self._read(group, generation)
            except NotFound as error:
                raise WorkerFault(f"a ready page lacks its vectors: {error.message}", stage="search") from error
        with search_stage("maxsim"):
            try:
                scores = await self._cpu_threads.run(maxsim_of_blobs, query, blobs)
            except ValueError as error:
                raise WorkerFault(f"a page's vectors cannot be read: {error}", stage="search") from error
        metrics.STAGE_PAGES.labels("exact", "in").inc(len(group))
        return [
            (score, page.first_page_key + number - 1, page, number)
            for score, (page, number) in zip(scores.tolist(), group, strict=True)
            if score > float("-inf")
        ]

    async def _read(self, group: Sequence[_Page], generation: Generation) -> list[bytes]:
        refs = [VectorBlobRef(page.document_id, number, generation.number) for page, number in group]
        with search_stage("blobs"):
            return await self._vector_blobs.read(refs)


async def _groups(ranges: Sequence[PageRange]) -> AsyncIterator[Sequence[_Page]]:
    group: list[_Page] = []
    for page in ranges:
        for number in range(1, page.pages + 1):
            group.append((page, number))
            if len(group) == _PAGES_AT_ONCE:
                yield group
                group = []
    if group:
        yield group
