"""The answers of the API. Fields that a newer server adds are ignored."""

from __future__ import annotations

from pydantic import BaseModel

from ingestion.model import DocumentState


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
    text_pages: TextPages | None = None
    notes: list[Note] = []
    warnings: list[str] = []


class UploadResult(BaseModel):
    documents: list[DocumentView]


class DocumentList(BaseModel):
    """One page of a listing. `next` is the value of `after` for the next page."""

    documents: list[DocumentView]
    next: str | None = None
