"""The JSON of requests and answers. Clients depend on these names."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel, Field

from ingestion.api.warnings import warnings_of
from ingestion.effort import Effort
from ingestion.errors import BadRecord
from ingestion.model import Document, DocumentState, Failure, Note, PageRecord, TextPages, public_name

API_PREFIX = "/api/v1"


class ErrorView(BaseModel):
    code: str
    stage: str
    message: str


class TextPagesView(BaseModel):
    """The number of pages whose text came from the file, from reading their images, or that have no text."""

    file: int
    ocr: int
    none: int
    unsearchable: int = Field(description="pages without vectors: no search finds them")

    @classmethod
    def of(cls, counts: TextPages | None) -> TextPagesView | None:
        return None if counts is None else cls(**asdict(counts))


class NoteView(BaseModel):
    kind: str
    subject: str = Field(description="a script, or the name of a file; empty for other kinds")
    pages: list[int] = Field(description="the first 100 pages that it is about; empty: the document")
    count: int = Field(description="the number of pages that it is about")

    @classmethod
    def of(cls, note: Note) -> NoteView:
        return cls(**asdict(note))


class CollectionView(BaseModel):
    """Counts of the ready documents of a collection. `text_pages` leaves out documents of earlier releases."""

    collection: str
    pages: int
    text_pages: TextPagesView
    warnings: list[str]


class DocumentView(BaseModel):
    document_id: str
    collection: str
    filename: str
    state: DocumentState
    pages: int
    pages_done: int
    attempts: int
    error: ErrorView | None
    media_type: str
    text_pages: TextPagesView | None = Field(description="null until pages are stored, and for earlier releases")
    notes: list[NoteView] = Field(description="what `warnings` says, for programs")
    warnings: list[str]

    @classmethod
    def of(cls, document: Document) -> DocumentView:
        failure = document.error
        if document.damage:  # this release cannot read the record, and so cannot process the document
            failure = Failure(BadRecord.code, "", document.damage)
        return cls(
            document_id=document.id,
            collection=public_name(document.collection),
            filename=document.filename,
            state=document.state,
            pages=document.pages,
            pages_done=document.pages_done,
            attempts=document.attempts,
            error=ErrorView(code=failure.code, stage=failure.stage, message=failure.message) if failure else None,
            media_type=document.media_type,
            text_pages=TextPagesView.of(document.text_pages),
            notes=[NoteView.of(note) for note in document.notes],
            warnings=warnings_of(document),
        )


class DocumentListView(BaseModel):
    documents: list[DocumentView]
    next: str | None = Field(description="the value of `after` for the next page; null on the last page")


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
            collection=document.collection,
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


def page_url(document_id: str, page_number: int) -> str:
    return f"{API_PREFIX}/documents/{document_id}/pages/{page_number}"


def page_image_url(document_id: str, page_number: int, page_key: int) -> str:
    """The address of a page's image. `v` names the image for good: every upload gets new page keys."""
    return f"{page_url(document_id, page_number)}/image?v={image_version(page_key)}"


def image_version(page_key: int) -> str:
    return f"{page_key:x}"


class AcceptedView(BaseModel):
    document_id: str
    filename: str
    state: DocumentState
    status_url: str

    @classmethod
    def of(cls, document: Document) -> AcceptedView:
        return cls(
            document_id=document.id,
            filename=document.filename,
            state=document.state,
            status_url=f"{API_PREFIX}/documents/{document.id}",
        )


class RefusedView(BaseModel):
    filename: str
    code: str
    detail: str


class UploadView(BaseModel):
    documents: list[AcceptedView]
    refused: list[RefusedView]


class SearchRequest(BaseModel):
    query: str
    top_k: int = 10
    effort: Effort = Effort.BALANCED
