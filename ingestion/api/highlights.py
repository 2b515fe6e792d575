"""The route that shows where on a page a query matches."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from ingestion.api.dependencies import DocumentDep, HighlighterDep, ServicesDep
from ingestion.api.document_pages import PageNumber, stored_page
from ingestion.api.page_views import HighlightsView
from ingestion.concurrency.deadline import budget
from ingestion.model import PageRecord
from ingestion.viewing.highlights import PictureKind
from ingestion.viewing.images import check_width

router = APIRouter(tags=["pages"])

_PICTURE_PX: Final = 640
_PNG: Final = "image/png"
_MOST_PX: Final = 6_000_000


@router.get(
    "/documents/{document_id}/pages/{page}/highlights",
    response_model=HighlightsView,
    responses={200: {"content": {_PNG: {}}}},
)
async def get_highlights(
    document: DocumentDep,
    page: PageNumber,
    query: Annotated[str, Query(description="as in a search")],
    services: ServicesDep,
    highlighter: HighlighterDep,
    format: Annotated[
        Literal["json", "png"] | None, Query(description="default: png where Accept names image/png, else json")
    ] = None,
    part: Annotated[
        PictureKind, Query(description="what a PNG shows; auto: the heat map where there is one, else the words")
    ] = "auto",
    width: Annotated[int, Query(description="of a PNG: one of the widths of page images")] = _PICTURE_PX,
    accept: Annotated[str | None, Header()] = None,
) -> HighlightsView | Response:
    """Where a query matches on a page: the words that match, and for a visual embedder a heat map.

    As a PNG with transparency, to be laid over the page's image; a missing part is a problem with status 409 then.
    """
    check_width(width)
    with budget(services.settings.search.search_budget_s):
        record = await stored_page(document, page, services, with_text=True, with_words=True)
        found = await highlighter.highlights(document, record, query)
        if not _wants_png(format, accept):
            return HighlightsView.of(document, record, query, found)
        picture = await highlighter.picture(found, part, *_size(record, width))
    return Response(picture, media_type=_PNG, headers={"Cache-Control": "private, max-age=60", "Vary": "Accept"})


def _size(record: PageRecord, width_px: int) -> tuple[int, int]:
    """Width and height of a picture that lies over the page, smaller than `width_px` for a very high page."""
    aspect = max(record.height_px, 1) / max(record.width_px, 1)
    width = min(width_px, (_MOST_PX / aspect) ** 0.5)
    return max(1, int(width)), max(1, round(width * aspect))


def _wants_png(wanted: str | None, accept: str | None) -> bool:
    if wanted is not None:
        return wanted == "png"
    return any(one.split(";")[0].strip() == _PNG for one in (accept or "").split(","))
