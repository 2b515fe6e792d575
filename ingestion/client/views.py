"""The answers of the API. Fields that a newer server adds are ignored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from ingestion.model import DocumentState, Metadata, Priority, Scalar


class DocumentError(BaseModel):
    code: str
    stage: str = ""
    message: str


class TextPages(BaseModel):
    """The number of pages by where their text came from; `unsearchable` pages are found by no search."""

    file: int = 0
    ocr: int = 0
    none: int = 0
    unsearchable: int = 0


class Note(BaseModel):
    """What `warnings` says, for programs. `pages`: the first 100 of `count` pages; empty for the whole document."""

    kind: str
    subject: str = ""
    pages: list[int] = []
    count: int = 0


class DocumentView(BaseModel):
    """A document. The answer of an upload has fewer fields than `GET /documents/{id}`."""

    document_id: str
    filename: str
    state: DocumentState
    collection: str = ""
    pages: int | None = None
    pages_done: int = 0
    attempts: int = 0
    error: DocumentError | None = None
    media_type: str = ""
    size_bytes: int | None = None
    text_pages: TextPages | None = None
    notes: list[Note] = []
    warnings: list[str] = []
    metadata: dict[str, Scalar] = {}
    tags: list[str] = []
    key: str | None = None
    replaced_by: str | None = None
    priority: str = ""
    """`interactive` or `bulk`. Empty in answers of an earlier release."""
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class UploadLabels:
    """What a user says about a file: see `ingestion.submit.UploadOptions`."""

    metadata: Metadata = field(default_factory=dict)
    tags: Sequence[str] = ()
    key: str = ""
    skip_duplicates: bool = False
    priority: Priority | None = None
    """None: the default of the API."""

    def fields(self) -> dict[str, str]:
        """The fields of a form."""
        fields = {"metadata": json.dumps(self.metadata)} if self.metadata else {}
        fields |= {"tags": json.dumps(list(self.tags))} if self.tags else {}
        fields |= {"key": self.key} if self.key else {}
        fields |= {"priority": self.priority.value} if self.priority else {}
        return fields | ({"duplicates": "skip"} if self.skip_duplicates else {})


class DeleteResult(BaseModel):
    """The answer to a delete by filter. `document_ids` are the first of `count` documents."""

    count: int
    document_ids: list[str]
    deleted: int
    remaining: int


class UploadResult(BaseModel):
    documents: list[DocumentView]


class Listing(BaseModel):
    """One page of a listing. `next` is the value of `after` for the next page."""

    next: str | None = None


class DocumentList(Listing):
    documents: list[DocumentView]


class PageView(BaseModel):
    """A page of a document: its text, where the text came from, and sizes."""

    document_id: str
    filename: str
    page: int
    pages: int
    text: str
    collection: str = ""
    text_source: str = ""
    width_px: int = 0
    height_px: int = 0
    vectors: int = 0
    image_url: str = ""


@dataclass(frozen=True, slots=True)
class PageImage:
    """An encoded image. `media_type` is image/webp, image/png or image/jpeg."""

    data: bytes = field(repr=False)
    media_type: str


class WordMatch(BaseModel):
    """A word of a page that matches. `box`: left, top, right and bottom, from 0 to 1 of the image."""

    text: str
    term: str
    box: tuple[float, float, float, float]


class Heat(BaseModel):
    """A heat map over a page: `values` by row, from 0 to 1."""

    rows: int
    columns: int
    values: list[list[float]]


class MissingPart(BaseModel):
    """Why `words` or `heat` is None."""

    part: str
    code: str
    detail: str = ""


class HighlightsView(BaseModel):
    """Where a query matches on a page."""

    document_id: str
    page: int
    words: list[WordMatch] | None = None
    heat: Heat | None = None
    missing: list[MissingPart] = []
