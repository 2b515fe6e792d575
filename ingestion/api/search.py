"""The search route."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request

from ingestion.api.auth import needs
from ingestion.api.dependencies import CollectionDep, SearcherDep, UsageDep
from ingestion.api.page_views import page_image_url, page_url
from ingestion.api.views import SearchRequest
from ingestion.filters import parse_filter
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
    where = None if wanted.filter is None else parse_filter(wanted.filter)
    answer = searcher.answer(collection, wanted.query, wanted.top_k, wanted.effort, wanted.mode, where)
    found = await cancel_on_disconnect(request.receive, answer)
    await usage.record(collection)
    hits = [_shown(hit, with_metadata=wanted.with_metadata) for hit in found.hits]
    return found.model_copy(update={"hits": hits})


def _shown(hit: Hit, *, with_metadata: bool) -> Hit:
    changes: dict[str, str | None] = {
        "page_url": page_url(hit.document_id, hit.page),
        "page_image_url": page_image_url(hit.document_id, hit.page, hit.page_key),
    }
    if not with_metadata:
        changes |= {"metadata": None, "tags": None}
    return hit.model_copy(update=changes)
