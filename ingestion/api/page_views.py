"""The JSON of answers about a page of a document, and the addresses of pages."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ingestion.api.views import API_PREFIX
from ingestion.errors import NoWordBoxes
from ingestion.model import Document, PageRecord, public_name
from ingestion.viewing.highlights import Highlights
from ingestion.words.boxes import SCALE
from ingestion.words.matching import Match


class PageView(BaseModel):
    """A page of a document. Addresses begin at the root of this API, and need the API key."""

    document_id: str
    collection: str
    filename: str
    page: int = Field(description="counts from 1")
    pages: int = Field(description="pages of the document")
    width_px: int = Field(description="of the stored image")
    height_px: int
    text: str
    text_source: str = Field(description="file, ocr or none; empty for documents of earlier releases")
    vectors: int = Field(description="0: no search finds the page")
    image_url: str

    @classmethod
    def of(cls, document: Document, page: PageRecord) -> PageView:
        return cls(
            document_id=document.id,
            collection=public_name(document.collection),
            filename=document.filename,
            page=page.page_number,
            pages=document.pages,
            width_px=page.width_px,
            height_px=page.height_px,
            text=page.text,
            text_source=page.text_source,
            vectors=page.patches,
            image_url=page_image_url(document.id, page.page_number, page.page_key),
        )


class WordMatchView(BaseModel):
    text: str = Field(description="as on the page")
    term: str = Field(description="the term of the query, without case and accents")
    box: tuple[float, float, float, float] = Field(
        description="left, top, right and bottom, from 0 to 1 of the upright image's width and height"
    )

    @classmethod
    def of(cls, match: Match) -> WordMatchView:
        left, top, right, bottom = (round(side / SCALE, 5) for side in match.box)
        return cls(text=match.text, term=match.term, box=(left, top, right, bottom))


class HeatView(BaseModel):
    """A heat map over the page, in rows of equal height and columns of equal width."""

    rows: int
    columns: int
    values: list[list[float]] = Field(description="row by row, from 0 to 1: the part that answers the query best is 1")


class MissingView(BaseModel):
    part: Literal["heat", "words"]
    code: str
    detail: str


class HighlightsView(BaseModel):
    """Where a query matches on a page. A part that is null has its cause in `missing`."""

    document_id: str
    page: int
    query: str
    width_px: int = Field(description="of the stored image")
    height_px: int
    words: list[WordMatchView] | None
    heat: HeatView | None
    missing: list[MissingView]

    @classmethod
    def of(cls, document: Document, page: PageRecord, query: str, found: Highlights) -> HighlightsView:
        heat = found.heat
        return cls(
            document_id=document.id,
            page=page.page_number,
            query=query,
            width_px=page.width_px,
            height_px=page.height_px,
            words=None if found.words is None else [WordMatchView.of(match) for match in found.words],
            heat=None if heat is None else HeatView(rows=len(heat), columns=heat.shape[1], values=_rounded(heat)),
            missing=[
                MissingView(
                    part="words" if isinstance(cause, NoWordBoxes) else "heat", code=cause.code, detail=cause.message
                )
                for cause in found.missing
            ],
        )


def _rounded(heat: NDArray[np.float32]) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in heat.tolist()]


def page_url(document_id: str, page_number: int) -> str:
    return f"{API_PREFIX}/documents/{document_id}/pages/{page_number}"


def page_image_url(document_id: str, page_number: int, page_key: int) -> str:
    """The address of a page's image. `v` names the image for good: every upload gets new page keys."""
    return f"{page_url(document_id, page_number)}/image?v={image_version(page_key)}"


def image_version(page_key: int) -> str:
    return f"{page_key:x}"
