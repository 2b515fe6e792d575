"""A search from end to end.

The ANN index answers for each query token with its nearest rows, and a row's key says which page it is on. Pages are
ranked by what that already tells; the best of them are scored exactly over all their vectors, one blob a page from
the object store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from ingestion import metrics
from ingestion.catalogue.generations import Generation
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import BadRequest, EmbedderMismatch, IngestError, NotFound, WorkerFault
from ingestion.model import PageRecord, Vectors, check_collection, check_text
from ingestion.ports import (
    Bindings,
    BlobStore,
    CollectionVersions,
    EmbedderChoice,
    QueryCache,
    Searchable,
    VectorStore,
)
from ingestion.search.admission import Admission, Place, estimated_tokens, rows_of
from ingestion.search.candidates import Candidate, CandidateRecords, Candidates, Wanted
from ingestion.search.coalescing import GatheredSearch
from ingestion.search.cpu_threads import Computing
from ingestion.search.hits import Found, Hit
from ingestion.search.query_cache import Memory, key_of
from ingestion.search.reranking import Reranker
from ingestion.search.snippets import snippet
from ingestion.search.version_age import Standing
from ingestion.settings import SearchSettings

_TRIES: Final = 3
_MAX_QUERY_CHARS: Final = 4000


class SearchRecords(CandidateRecords, CollectionVersions, Bindings, Protocol):
    """What a search reads."""


class Searcher:
    """Finds pages of ready documents. Safe to use from many tasks at once."""

    def __init__(
        self,
        *,
        embedder: EmbedderChoice,
        vectors: VectorStore,
        documents: SearchRecords,
        blobs: BlobStore,
        settings: SearchSettings,
        cache: QueryCache | None = None,
    ) -> None:
        self._embedder = embedder
        self._documents = documents
        self._blobs = blobs
        self._settings = settings
        self._standing = Standing()
        self._memory = Memory(cache, documents, settings.search_cache_ttl_s)
        self._admission = Admission(settings.search_limit_rows)
        self._computing = Computing()
        index = GatheredSearch(vectors, settings.search_ann_requests, self._computing)
        self._candidates = Candidates(index, documents, settings.search_ann_limit)
        self._reranker = Reranker(
            blobs,
            self._computing,
            cache_bytes=settings.search_page_cache_bytes,
            limit_bytes=settings.search_limit_bytes,
        )

    def check_room(self) -> None:
        """Raises Overloaded where not even the smallest search would be let in."""
        self._admission.check_room(rows_of(0, self._settings.search_ann_limit))

    async def search(self, collection: str, query: str, top_k: int) -> list[Hit]:
        """The `top_k` best pages of `collection`, best first; an unknown collection has none.

        Raises BadRequest, EmbedderMismatch where nobody embeds queries with what the collection was filled by,
        Overloaded at once where too much is in flight, here or at the embedder, CollectionArchived and
        DependencyUnavailable.
        """
        check_collection(collection)
        self._check(query, top_k)
        with self._admission.admit(rows_of(estimated_tokens(query), self._settings.search_ann_limit)) as place:
            return await self._search(collection, query, top_k, place)

    async def _search(self, collection: str, query: str, top_k: int, place: Place) -> list[Hit]:
        while (view := await self._view(collection)) is not None:
            try:
                found = await self._answer(view, query, top_k, place)
            except IngestError:
                if await self._is_current(view):
                    raise
                continue  # what it was looking at has been removed since
            if found is not None:
                return await self._hits(found)
        return []

    async def _view(self, collection: str) -> Searchable | None:
        """Asked for before anything is looked for: see `remembering`."""
        with metrics.SEARCH.labels("collection").time():
            return await self._documents.searchable(collection)

    async def _is_current(self, view: Searchable) -> bool:
        """False where the collection has passed to other vectors since, and the ones it had are being removed."""
        bound = await self._documents.binding(view.binding.collection)
        return bound is None or bound.current == view.binding.current

    async def _answer(self, view: Searchable, query: str, top_k: int, place: Place) -> list[Found] | None:
        """None where the vectors that were searched may not have been whole to the end."""
        wanted = max(top_k, self._settings.search_candidates)
        key = key_of(view, query, (top_k, wanted, self._settings.search_ann_limit))
        with metrics.SEARCH.labels("recall").time():
            remembered = await self._memory.recall(key)
        if remembered is not None:
            return remembered
        collection, generation = view.binding.collection, view.binding.current
        unchanged_s = self._standing.unchanged_s(view)
        vectors = await self._embed(collection, generation, query)
        ranked = await self._best(
            collection, generation, vectors, Wanted(wanted, needed=top_k, unchanged_s=unchanged_s), place
        )
        found, is_current = await asyncio.gather(self._found(query, ranked[:top_k]), self._is_current(view))
        if not is_current:
            return None
        if len(found) == len(ranked[:top_k]):  # else a document of it is just being deleted
            await self._memory.keep(key, found)
        return found

    async def _embed(self, collection: str, generation: Generation, query: str) -> Vectors:
        with metrics.SEARCH.labels("embed").time():
            embedder = await self._embedder.for_fingerprint(generation.fingerprint)
            vectors = (await embedder.embed_queries([query]))[0]
        if embedder.fingerprint != generation.fingerprint:
            raise EmbedderMismatch(
                f"collection {collection!r} holds vectors of {generation.fingerprint!r}, "
                f"but queries are embedded with {embedder.fingerprint!r}"
            )
        return vectors

    async def _best(
        self, collection: str, generation: Generation, query: Vectors, wanted: Wanted, place: Place
    ) -> list[tuple[Candidate, float]]:
        for _ in range(_TRIES):
            candidates = await self._candidates.find(collection, generation, query, wanted, place)
            try:
                return await self._reranker.rank(query, candidates, generation)
            except NotFound:
                continue  # a document was deleted after it had become a candidate: look again without it
        raise WorkerFault(f"pages of {collection!r} lack their vectors in the object store", stage="search")

    def _check(self, query: str, top_k: int) -> None:
        check_text(query, "the query")
        if not query.strip():
            raise BadRequest("the query is empty")
        if len(query) > _MAX_QUERY_CHARS:
            raise BadRequest(f"the query has {len(query)} characters, at most {_MAX_QUERY_CHARS} are accepted")
        if not 1 <= top_k <= self._settings.search_max_top_k:
            raise BadRequest(f"top_k is {top_k}, it must be 1 to {self._settings.search_max_top_k}")

    async def _found(self, query: str, ranked: Sequence[tuple[Candidate, float]]) -> list[Found]:
        """Pages whose records are gone belong to a document that is being deleted."""
        with metrics.SEARCH.labels("texts").time():
            records = await self._documents.pages_by_key([page.page_key for page, _ in ranked], with_text=True)
            return await self._computing.run(_shown, query, ranked, records)

    async def _hits(self, found: Sequence[Found]) -> list[Hit]:
        expires_s = self._settings.image_url_expires_s
        addresses = await gather_or_cancel(*(self._blobs.presign(one.image_key, expires_s) for one in found))
        return [
            Hit(one.document_id, one.filename, one.page, one.score, address, one.snippet)
            for one, address in zip(found, addresses, strict=True)
        ]


def _shown(query: str, ranked: Sequence[tuple[Candidate, float]], records: Mapping[int, PageRecord]) -> list[Found]:
    """Looks through the whole text of each page, which may be 100,000 characters."""
    return [
        Found(
            document_id=page.document.id,
            page_key=page.page_key,
            page=page.page_number,
            filename=page.document.filename,
            score=score,
            image_key=record.image_key,
            snippet=snippet(record.text, query),
        )
        for page, score in ranked
        if (record := records.get(page.page_key)) is not None
    ]
