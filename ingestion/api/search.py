"""The search route."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request

from ingestion.api.dependencies import SearcherDep, UsageDep
from ingestion.api.views import SearchRequest
from ingestion.hits import SearchResult
from ingestion.http.disconnect import cancel_on_disconnect

_MAX_BODY_BYTES: Final = 64 * 1024
"""Several times the longest query."""

router = APIRouter(tags=["search"])


@router.post("/collections/{collection}/search", max_body_size=_MAX_BODY_BYTES)
async def search(
    collection: str, wanted: SearchRequest, request: Request, searcher: SearcherDep, usage: UsageDep
) -> SearchResult:
    """The pages of ready documents that match the query best, best first. An unknown collection has no hits.

    429 with Retry-After where too many searches are in flight. A search is cancelled when its client disconnects.
    """
    hits = await cancel_on_disconnect(
        request.receive, searcher.search(collection, wanted.query, wanted.top_k, wanted.effort)
    )
    await usage.record(collection)
    return SearchResult(hits=hits)
