"""The search route."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request

from ingestion.api.auth import needs
from ingestion.api.dependencies import CollectionDep, SearcherDep, UsageDep
from ingestion.api.views import SearchRequest, page_image_url, page_url
from ingestion.hits import Hit, SearchResult
from ingestion.http.disconnect import cancel_on_disconnect
from ingestion.model import Role

_MAX_BODY_BYTES: Final = 64 * 1024
"""Several times the longest query."""

router = APIRouter(tags=["search"])


@router.post("/collections/{collection}/search", max_body_size=_MAX_BODY_BYTES)
@needs(Role.READ)
async def search(
    collection: CollectionDep, wanted: SearchRequest, request: Request, searcher: SearcherDep, usage: UsageDep
) -> SearchResult:
    """The pages of ready documents that match the query best, best first. An unknown collection has no hits.

    429 with Retry-After where too many searches are in flight. A search is cancelled when its client disconnects.
    """
    found = await cancel_on_disconnect(
        request.receive, searcher.answer(collection, wanted.query, wanted.top_k, wanted.effort, wanted.mode)
    )
    await usage.record(collection)
    return found.model_copy(update={"hits": [_with_page_urls(hit) for hit in found.hits]})


def _with_page_urls(hit: Hit) -> Hit:
    urls = {
        "page_url": page_url(hit.document_id, hit.page),
        "page_image_url": page_image_url(hit.document_id, hit.page, hit.page_key),
    }
    return hit.model_copy(update=urls)
