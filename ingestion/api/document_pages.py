"""Routes that show a page of a document: its text and sizes, and its image."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Path, Query
from starlette.responses import Response

from ingestion.api.dependencies import DocumentDep, PageImagesDep, ServicesDep
from ingestion.api.page_views import PageView, image_version
from ingestion.bootstrap import Services
from ingestion.concurrency.deadline import budget
from ingestion.errors import NotFound
from ingestion.model import Document, DocumentState, PageRecord
from ingestion.viewing.images import check_width

router = APIRouter(tags=["pages"])

_YEAR_S: Final = 365 * 24 * 3600
_IMAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}

PageNumber = Annotated[int, Path(ge=1, description="counts from 1")]


@router.get("/documents/{document_id}/pages/{page}")
async def get_page(document: DocumentDep, page: PageNumber, services: ServicesDep) -> PageView:
    """The text of a page, where the text came from, and the address of the page's image."""
    with budget(services.settings.api.store_budget_s):
        record = await stored_page(document, page, services, with_text=True)
    return PageView.of(document, record)


@router.get(
    "/documents/{document_id}/pages/{page}/image",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": {}, "image/png": {}, "image/jpeg": {}}},
        304: {"description": "the client's copy, named in If-None-Match, is the image"},
    },
)
async def get_page_image(
    document: DocumentDep,
    page: PageNumber,
    services: ServicesDep,
    images: PageImagesDep,
    width: Annotated[int | None, Query(description="pixels: 160, 320, 640, 960, 1280 or 1600")] = None,
    v: Annotated[
        str | None, Query(description="the version that an answer named; lets the client keep the image")
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The image of a page, as it is stored or in one of the smaller widths. An image is never enlarged.

    With the `v` of an answer of this API, a client may keep the image for a year; without, it asks each time and gets
    304 where its copy is the image.
    """
    if width is not None:
        check_width(width)
    with budget(services.settings.api.store_budget_s):
        record = await stored_page(document, page, services)
        version = image_version(record.page_key)
        headers = {**_IMAGE_HEADERS, "ETag": f'"{version}-{width or 0}"', "Cache-Control": "private, no-cache"}
        if v == version:
            headers["Cache-Control"] = f"private, max-age={_YEAR_S}, immutable"
        if _is_known(if_none_match, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        image = await images.image(record, width)
    return Response(image.data, media_type=image.media_type, headers=headers)


async def stored_page(
    document: Document, number: int, services: Services, *, with_text: bool = False, with_words: bool = False
) -> PageRecord:
    """The record of a page. Raises NotFound where the document has no such page, or no worker has stored it yet."""
    if document.state is DocumentState.DELETING:
        raise NotFound(f"document {document.id} is being deleted")
    if number <= max(document.pages, 1):
        key = document.page_key(number)
        found = await services.documents.pages_by_key([key], with_text=with_text, with_words=with_words)
        if key in found:
            return found[key]
    if document.state.is_settled and document.pages:
        raise NotFound(f"document {document.id} has pages 1 to {document.pages}; page {number} is not stored")
    raise NotFound(
        f"page {number} of document {document.id} is not stored yet: the document is {document.state.value}"
    )


def _is_known(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in if_none_match.split(","))
