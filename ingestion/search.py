"""From a query to pages: per-token ANN, candidate pages, exact MaxSim.

The ANN index answers for each query token with its nearest rows, and a row's key says which page it is on. Pages are
ranked by what that already tells; the best of them are scored exactly over all their vectors, one blob a page from
the object store.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from ingestion import metrics
from ingestion.concurrency import side_by_side
from ingestion.errors import BadRequest, EmbedderMismatch, NotFound, WorkerFault
from ingestion.model import Document, PageRecord, Vectors, check_collection, vectors_key
from ingestion.ports import BlobStore, DocumentStore, Embedder, VectorStore
from ingestion.settings import SearchSettings
from ingestion.vectors import decode_blob, maxsim

_WIDEN_BY: Final = 4
_WIDEST_LIMIT: Final = 6400
_PREFILTER_FACTOR: Final = 4
_TRIES: Final = 3
_SNIPPET_CHARS: Final = 240
_MAX_QUERY_CHARS: Final = 4000


@dataclass(frozen=True, slots=True)
class Hit:
    """A page that answers the query; `page` counts from 1, `score` is the MaxSim sum over query tokens."""

    document_id: str
    filename: str
    page: int
    score: float
    image_url: str
    snippet: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    record: PageRecord
    document: Document


class Searcher:
    """Finds pages of ready documents. Safe to use from many tasks at once."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        vectors: VectorStore,
        documents: DocumentStore,
        blobs: BlobStore,
        settings: SearchSettings,
    ) -> None:
        self._embedder = embedder
        self._vectors = vectors
        self._documents = documents
        self._blobs = blobs
        self._settings = settings

    async def search(self, collection: str, query: str, top_k: int) -> list[Hit]:
        """The `top_k` best pages of `collection`, best first; an unknown collection has none.

        Raises BadRequest, EmbedderMismatch where the collection was filled by another embedder, and
        DependencyUnavailable.
        """
        check_collection(collection)
        self._check(query, top_k)
        fingerprint = await self._documents.collection_fingerprint(collection)
        if fingerprint is None:
            return []
        with metrics.SEARCH.labels("embed").time():
            vectors = (await self._embedder.embed_queries([query]))[0]
        if self._embedder.fingerprint != fingerprint:
            raise EmbedderMismatch(
                f"collection {collection!r} holds vectors of {fingerprint!r}, "
                f"but queries are embedded with {self._embedder.fingerprint!r}"
            )
        ranked = await self._best(collection, vectors, max(top_k, self._settings.search_candidates))
        return await self._hits(query, ranked[:top_k])

    async def _best(self, collection: str, query: Vectors, wanted: int) -> list[tuple[_Candidate, float]]:
        for _ in range(_TRIES):
            candidates = await self._candidates(collection, query, wanted)
            try:
                return await self._rerank(query, candidates)
            except NotFound:
                continue  # a document was deleted after it had become a candidate: look again without it
        raise WorkerFault(f"pages of {collection!r} lack their vectors in the object store", stage="search")

    def _check(self, query: str, top_k: int) -> None:
        if not query.strip():
            raise BadRequest("the query is empty")
        if len(query) > _MAX_QUERY_CHARS:
            raise BadRequest(f"the query has {len(query)} characters, at most {_MAX_QUERY_CHARS} are accepted")
        if not 1 <= top_k <= self._settings.search_max_top_k:
            raise BadRequest(f"top_k is {top_k}, it must be 1 to {self._settings.search_max_top_k}")

    async def _candidates(self, collection: str, query: Vectors, wanted: int) -> list[_Candidate]:
        """The pages of ready documents that the ANN rates best, at most `wanted`.

        Rows of documents that are not ready take up places in the answer. Where too few pages are left while the
        index has more to give, it is asked again for more rows.
        """
        limit = self._settings.search_ann_limit
        while True:
            with metrics.SEARCH.labels("ann").time():
                neighbours = await self._vectors.search(collection, query, limit)
            best = approximate_scores(neighbours)
            candidates = await self._ready(best[: wanted * _PREFILTER_FACTOR])
            exhausted = all(len(rows) < limit for rows in neighbours)
            if len(candidates) >= wanted or exhausted or limit >= _WIDEST_LIMIT or len(candidates) == len(best):
                return candidates[:wanted]
            limit *= _WIDEN_BY

    async def _ready(self, page_keys: list[int]) -> list[_Candidate]:
        """Records of the pages whose documents are ready, in the given order."""
        records = await self._documents.pages_by_key(page_keys)
        documents = await self._documents.ready_documents({record.document_id for record in records.values()})
        return [
            _Candidate(records[key], documents[records[key].document_id])
            for key in page_keys
            if key in records and records[key].document_id in documents
        ]

    async def _rerank(self, query: Vectors, candidates: list[_Candidate]) -> list[tuple[_Candidate, float]]:
        with metrics.SEARCH.labels("blobs").time():
            blobs = await self._blobs.get_many(
                [vectors_key(found.document.id, found.record.page_number) for found in candidates]
            )
        with metrics.SEARCH.labels("maxsim").time():
            scores = await asyncio.to_thread(_score, query, blobs)
        order = np.argsort(-scores, kind="stable")
        return [(candidates[i], float(scores[i])) for i in order if np.isfinite(scores[i])]

    async def _hits(self, query: str, ranked: list[tuple[_Candidate, float]]) -> list[Hit]:
        texts = await self._documents.pages_by_key([found.record.page_key for found, _ in ranked], with_text=True)
        addresses = await side_by_side(
            *(self._blobs.presign(found.record.image_key, self._settings.image_url_expires_s) for found, _ in ranked)
        )
        return [
            Hit(
                document_id=found.document.id,
                filename=found.document.filename,
                page=found.record.page_number,
                score=score,
                image_url=address,
                snippet=snippet(texts[found.record.page_key].text, query) if found.record.page_key in texts else "",
            )
            for (found, score), address in zip(ranked, addresses, strict=True)
        ]


def approximate_scores(neighbours: list[list[tuple[int, float]]]) -> list[int]:
    """Page keys, best first, by MaxSim over the rows that the ANN returned for each query token.

    A page that a token did not reach gets that token's lowest returned score, an upper bound of its true one, as in
    XTR (Lee et al., 2023): otherwise a page would lose to others merely for having been cut off.
    """
    best: dict[int, dict[int, float]] = {}
    for token, rows in enumerate(neighbours):
        for page_key, score in rows:
            reached = best.setdefault(page_key, {})
            reached[token] = max(score, reached.get(token, score))
    floors = [min((score for _, score in rows), default=0.0) for rows in neighbours]
    base = sum(floors)
    totals = {key: base + sum(s - floors[token] for token, s in reached.items()) for key, reached in best.items()}
    return sorted(totals, key=lambda key: (-totals[key], key))


def snippet(text: str, query: str) -> str:
    """The stretch of `text` in which most of the query's words stand, on one line, about 240 characters."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARS:
        return line
    words = {word for word in re.findall(r"\w+", query.lower()) if len(word) > 2}
    found = [(m.start(), m.group().lower()) for m in re.finditer(r"\w+", line) if m.group().lower() in words]
    start = max(
        (at for at, _ in found),
        key=lambda at: len({word for other, word in found if at <= other < at + _SNIPPET_CHARS}),
        default=0,
    )
    begin = max(0, min(start - 30, len(line) - _SNIPPET_CHARS))
    cut = line[begin : begin + _SNIPPET_CHARS]
    return ("…" if begin else "") + cut.strip() + ("…" if begin + _SNIPPET_CHARS < len(line) else "")


def _score(query: Vectors, blobs: list[bytes]) -> np.ndarray:
    try:
        return maxsim(query, [decode_blob(blob) for blob in blobs])
    except ValueError as error:
        raise WorkerFault(f"a page's vectors cannot be read: {error}", stage="search") from error
