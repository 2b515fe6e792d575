"""Routes that show, list and delete documents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ingestion.api.dependencies import RemoverDep, ServicesDep
from ingestion.api.views import DocumentListView, DocumentView
from ingestion.concurrency.deadline import budget
from ingestion.errors import CollectionArchived, NotFound
from ingestion.model import check_collection

router = APIRouter(tags=["documents"])


@router.get("/documents/{document_id}")
async def get_document(document_id: str, services: ServicesDep) -> DocumentView:
    with budget(services.settings.api.store_budget_s):
        document = await services.documents.get(document_id)
        if document is None:
            if await services.documents.archived_ids([document_id]):
                raise CollectionArchived(f"document {document_id} is archived; restore its collection first")
            raise NotFound(f"no document {document_id}")
    return DocumentView.of(document)


@router.get("/documents")
async def list_documents(
    services: ServicesDep,
    collection: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> DocumentListView:
    """Documents of one collection, or of all collections that are not archived, sorted by id."""
    with budget(services.settings.api.store_budget_s):
        if collection is not None:
            await services.documents.require_active(check_collection(collection))
        found = await services.documents.list(collection, limit=limit + 1, after=after)
    page = found[:limit]
    return DocumentListView(
        documents=[DocumentView.of(document) for document in page],
        next=page[-1].id if len(found) > limit else None,
    )


@router.delete("/documents/{document_id}", status_code=204)
async def delete_document(document_id: str, remover: RemoverDep) -> None:
    """Remove the document from every store.

    After 503 it stays `deleting`: repeat the request, or wait for the janitor.
    """
    await remover.delete_document(document_id)


@router.delete("/collections/{collection}", status_code=204)
async def delete_collection(collection: str, remover: RemoverDep) -> None:
    """Remove the documents of a collection, the collection, and its archive. 204 also where there is none.

    After 503, repeat the request, or wait for the janitor.
    """
    await remover.delete_collection(collection)
