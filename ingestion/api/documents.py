"""Routes that show, list and delete documents."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse

from ingestion.api.dependencies import CollectionDep, DocumentDep, PrincipalDep, RemoverDep, ServicesDep
from ingestion.api.views import CollectionView, DocumentListView, DocumentView, TextPagesView
from ingestion.api.warnings import text_warnings
from ingestion.concurrency.deadline import budget
from ingestion.model import public_name, qualified_name

router = APIRouter(tags=["documents"])

_SOURCE_VALID_S: Final = 3600


@router.get("/documents/{document_id}")
async def get_document(document: DocumentDep) -> DocumentView:
    return DocumentView.of(document)


@router.get("/documents")
async def list_documents(
    services: ServicesDep,
    principal: PrincipalDep,
    collection: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> DocumentListView:
    """Documents of one collection, or of all collections that are not archived, sorted by id."""
    tenant = principal.tenant
    qualified = None if collection is None else qualified_name(tenant, collection)
    with budget(services.settings.api.store_budget_s):
        if qualified is not None:
            await services.documents.require_active(qualified)
        found = await services.documents.list(qualified, tenant=tenant, limit=limit + 1, after=after)
    page = found[:limit]
    return DocumentListView(
        documents=[DocumentView.of(document) for document in page],
        next=page[-1].id if len(found) > limit else None,
    )


@router.get("/documents/{document_id}/source", status_code=307, response_class=RedirectResponse)
async def get_source(document: DocumentDep, services: ServicesDep) -> RedirectResponse:
    """Redirect to the uploaded file in the object store. The address is valid for a while and needs no key."""
    with budget(services.settings.api.store_budget_s):
        return RedirectResponse(await services.blobs.presign(document.object_key, _SOURCE_VALID_S), 307)


@router.get("/collections/{collection}")
async def get_collection(collection: CollectionDep, services: ServicesDep) -> CollectionView:
    """Count the pages of the collection's ready documents, by where their texts came from."""
    with budget(services.settings.api.store_budget_s):
        await services.documents.require_active(collection)
        pages = await services.documents.count_ready_pages(collection)
        counts = await services.documents.count_text_pages(collection)
    return CollectionView(
        collection=public_name(collection),
        pages=pages,
        text_pages=TextPagesView(**asdict(counts)),
        warnings=text_warnings(counts),
    )


@router.delete("/documents/{document_id}", status_code=204)
async def delete_document(document: DocumentDep, remover: RemoverDep) -> None:
    """Remove the document from every store.

    After 503 it stays `deleting`: repeat the request, or wait for the janitor.
    """
    await remover.delete_document(document.id)


@router.delete("/collections/{collection}", status_code=204)
async def delete_collection(collection: CollectionDep, remover: RemoverDep) -> None:
    """Remove the documents of a collection, the collection, and its archive. 204 also where there is none.

    After 503, repeat the request, or wait for the janitor.
    """
    await remover.delete_collection(collection)
