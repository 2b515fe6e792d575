"""The JSON of requests and answers. Clients depend on these names."""

from __future__ import annotations

from pydantic import BaseModel, Field

from ingestion.effort import Effort
from ingestion.errors import BadRecord
from ingestion.model import Document, DocumentState, Failure

API_PREFIX = "/api/v1"


class ErrorView(BaseModel):
    code: str
    stage: str
    message: str


class DocumentView(BaseModel):
    document_id: str
    collection: str
    filename: str
    state: DocumentState
    pages: int
    pages_done: int
    attempts: int
    error: ErrorView | None

    @classmethod
    def of(cls, document: Document) -> DocumentView:
        failure = document.error
        if document.damage:  # this release cannot read the record, and so cannot process the document
            failure = Failure(BadRecord.code, "", document.damage)
        return cls(
            document_id=document.id,
            collection=document.collection,
            filename=document.filename,
            state=document.state,
            pages=document.pages,
            pages_done=document.pages_done,
            attempts=document.attempts,
            error=ErrorView(code=failure.code, stage=failure.stage, message=failure.message) if failure else None,
        )


class DocumentListView(BaseModel):
    documents: list[DocumentView]
    next: str | None = Field(description="the value of `after` for the next page; null on the last page")


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
