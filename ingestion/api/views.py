"""The JSON of requests and answers. Clients depend on these names."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ingestion.api.warnings import warnings_of
from ingestion.effort import Effort
from ingestion.errors import BadRecord
from ingestion.model import Document, DocumentState, Failure, Note, Priority, Scalar, TextPages, public_name
from ingestion.search_mode import SearchMode

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


class CollectionTotalsView(BaseModel):
    """Totals of a collection's documents."""

    collection: str
    documents: dict[str, int] = Field(description="by state; only the states that occur")
    pages: int = Field(description="pages that are stored")
    size_bytes: int = Field(description="of the uploaded files")


class CollectionListView(BaseModel):
    collections: list[CollectionTotalsView]


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
    size_bytes: int = Field(description="of the uploaded file")
    text_pages: TextPagesView | None = Field(description="null until pages are stored, and for earlier releases")
    notes: list[NoteView] = Field(description="what `warnings` says, for programs")
    warnings: list[str]
    uploaded: datetime | None
    metadata: dict[str, Scalar]
    tags: list[str]
    key: str | None = Field(description="the name of all versions of the file")
    replaced_by: str | None = Field(description="the newer version of the key; this document is removed soon")
    priority: Priority = Field(description="`interactive` documents go before `bulk` ones")
    duplicate_of: str | None = Field(description="a document that had the same bytes at the time of the upload")

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
            size_bytes=document.size_bytes,
            text_pages=TextPagesView.of(document.text_pages),
            notes=[NoteView.of(note) for note in document.notes],
            warnings=warnings_of(document),
            uploaded=document.created_at,
            metadata=dict(document.metadata),
            tags=list(document.tags),
            key=document.key or None,
            replaced_by=document.replaced_by or None,
            priority=document.flow.priority,
            duplicate_of=document.duplicate_of or None,
        )


class DocumentPatch(BaseModel):
    """A JSON merge patch (RFC 7396) of a document: what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[str, Any] | None = Field(None, description="values replace those of their keys; null removes one")
    tags: list[str] | None = Field(None, description="all tags of the document from now on")


class DeleteRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filter: str
    dry_run: bool = False


class DeleteView(BaseModel):
    count: int = Field(description="documents for which the filter held")
    document_ids: list[str] = Field(description="the first of them")
    deleted: int
    remaining: int = Field(description="send the request again while this is above 0")


class OutageView(BaseModel):
    dependency: str
    since: datetime


class ProgressView(DocumentView):
    """A document, and how its processing goes on."""

    stage: str = Field(description="stage of the pipeline while it is processed, or in which the last attempt failed")
    message: str = Field(description="for people; empty where there is nothing to say")
    waiting_before: int | None = Field(
        description="documents of all tenants that begin earlier, as tenants and priorities take turns; counted up to "
        "10,000; "
        "null unless the document waits, and until it is counted: a stream of many documents counts a few at a time"
    )
    waits_for: list[OutageView] = Field(description="servers that workers wait for; empty for a finished document")
    seconds_left: int | None = Field(
        description="an estimate from the pages that were stored while this stream was open; null without one"
    )


class DocumentListView(BaseModel):
    documents: list[DocumentView]
    next: str | None = Field(description="the value of `after` for the next page; null on the last page")


class AcceptedView(BaseModel):
    document_id: str
    filename: str
    state: DocumentState
    status_url: str
    duplicate_of: str | None

    @classmethod
    def of(cls, document: Document) -> AcceptedView:
        return cls(
            document_id=document.id,
            filename=document.filename,
            state=document.state,
            status_url=f"{API_PREFIX}/documents/{document.id}",
            duplicate_of=document.duplicate_of or None,
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
    mode: SearchMode | None = None
    """None: that of PAGEMILL_SEARCH_MODE."""
    filter: str | None = Field(None, description="only pages of documents for which it holds")
    with_metadata: bool = Field(False, description="show metadata and tags in each hit")
