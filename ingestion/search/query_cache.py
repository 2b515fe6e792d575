"""Answers of searches in Redis, and why none of them is ever out of date.

The key of an answer contains the version that the collection had *before* the search; `get` uses the version that the
collection has now. Between two reads of the same version no document became ready: a document becomes ready only
between two changes of its collection's version (`CollectionVersions`). Meanwhile the collection has no version, and
nothing is cached. A document may have been deleted. So `get` checks that every document of the answer is still ready,
else it returns nothing. A deleted document that is not in the answer does not change it: all its pages ranked lower.

Every other change of what a search finds, such as a switch to other vectors or a restored archive, must change the
version in the same step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import structlog

from ingestion import metrics
from ingestion.hits import Hit, decode_hits, encode_hits
from ingestion.ports import DocumentReader, QueryCache, Searchable

log = structlog.get_logger(__name__)


class VersionedQueryCache:
    """Keeps answers for at most `ttl_s` seconds. Without a cache, or with 0 seconds, it keeps nothing."""

    def __init__(self, cache: QueryCache | None, documents: DocumentReader, ttl_s: int) -> None:
        self._cache = cache if ttl_s else None
        self._documents = documents
        self._ttl_s = ttl_s

    async def get(self, key: str | None) -> list[Hit] | None:
        """The answer under `key`. None where there is none, or where a page of it has been deleted."""
        if self._cache is None:
            return None
        hits, outcome = await self._lookup(self._cache, key)
        metrics.SEARCH_CACHE.labels(outcome).inc()
        return hits

    async def put(self, key: str | None, hits: Sequence[Hit]) -> None:
        if self._cache is not None and key is not None:
            await self._cache.put(key, encode_hits(hits), self._ttl_s)

    async def _lookup(self, cache: QueryCache, key: str | None) -> tuple[list[Hit] | None, str]:
        if key is None:
            return None, "changing"
        if (kept := await cache.get(key)) is None:
            return None, "miss"
        try:
            hits = decode_hits(kept)
        except (TypeError, ValueError):
            log.warning("a cached answer cannot be read", key=key)
            return None, "miss"
        return (hits, "hit") if await self._are_ready(hits) else (None, "deleted")

    async def _are_ready(self, hits: Sequence[Hit]) -> bool:
        ids = {hit.document_id for hit in hits}
        documents = await self._documents.ready_documents(ids) if ids else {}
        return all(
            hit.document_id in documents and hit.page_key in documents[hit.document_id].page_keys for hit in hits
        )


def key_of(view: Searchable, query: str, options: Sequence[int | str]) -> str | None:
    """The key of an answer; None while the collection has no version. `options` are the other things that the answer
    depends on: hits, effort, pages and rows."""
    if view.version is None:
        return None
    asked = hashlib.sha256(json.dumps([query, *options]).encode()).hexdigest()
    return f"query:{view.binding.current.fingerprint}:{view.binding.collection}:{view.version}:{asked}"
