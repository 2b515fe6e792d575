"""Routes that cancel documents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ingestion.api.dependencies import CancellerDep, CollectionDep, DocumentDep
from ingestion.api.views import DocumentView
from ingestion.filters import parse_filter

router = APIRouter(tags=["documents"])


class CancelView(BaseModel):
    cancelled: int = Field(description="documents that are cancelled now")
    cancelling: int = Field(description="documents whose work has stopped, and that the janitor cleans up")


@router.post("/documents/{document_id}/cancel")
async def cancel_document(document: DocumentDep, canceller: CancellerDep) -> DocumentView:
    """Stop the work on a document and remove what it has written. The document stays, as `cancelled`.

    409 for a document that is ready, failed or being deleted. Cancelling twice is the same as once. After 503 the
    document is `cancelling`: repeat the request, or wait for the janitor.
    """
    return DocumentView.of(await canceller.cancel_document(document.id))


@router.post("/collections/{collection}/cancel")
async def cancel_collection(
    collection: CollectionDep,
    canceller: CancellerDep,
    where: Annotated[str | None, Query(alias="filter", description="only these documents; see Filters")] = None,
) -> CancelView:
    """Cancel all documents of a collection that are not finished, or those that the filter selects."""
    result = await canceller.cancel_collection(collection, None if where is None else parse_filter(where))
    return CancelView(cancelled=result.cancelled, cancelling=result.cancelling)
