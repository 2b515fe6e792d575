"""Routes that show, list and delete documents."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse

from ingestion.api.dependencies import CollectionDep, DocumentDep, PrincipalDep, RemoverDep, ServicesDep
from ingestion.api.views import (
    CollectionListView,
    CollectionTotalsView,
    CollectionView,
    DeleteRequest,
    DeleteView,
    DocumentListView,
    DocumentPatch,
    DocumentView,
    TextPagesView,
)
from ingestion.api.warnings import text_warnings
from ingestion.concurrency.deadline import budget
from ingestion.document_patch import patch_document
from ingestion.filters import parse_filter
from ingestion.model import check_metadata, check_tags, public_name, qualified_name

router = APIRouter(tags=["documents"])

_SOURCE_VALID_S: Final = 3600
_SHOWN: Final = 100
_DELETED_AT_ONCE: Final = 1_000


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
    filter: str | None = None,
) -> DocumentListView:
    """Documents of one collection, or of all collections that are not archived, sorted by id.

    `filter`: only those for which it holds. It needs a collection.
    """
    where = None if filter is None else parse_filter(filter)
    tenant = principal.tenant
    qualified = None if collection is None else qualified_name(tenant, collection)
    with budget(services.settings.api.store_budget_s):
        if qualified is not None:
            await services.documents.require_active(qualified)
        found = await services.documents.list(qualified, tenant=tenant, limit=limit + 1, after=after, where=where)
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


@router.get("/collections")
async def list_collections(services: ServicesDep, principal: PrincipalDep) -> CollectionListView:
    """The caller's collections that have documents, with totals, by name. Archived ones are left out."""
    with budget(services.settings.api.store_budget_s):
        totals = await services.documents.collection_totals(principal.tenant)
    return CollectionListView(
        collections=[
            CollectionTotalsView(
                collection=public_name(name),
                documents=dict(one.documents),
                pages=one.pages,
                size_bytes=one.source_bytes,
            )
            for name, one in sorted(totals.items())
        ]
    )


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


@router.patch("/documents/{document_id}")
async def patch_document_route(document: DocumentDep, patch: DocumentPatch, services: ServicesDep) -> DocumentView:
    """Change metadata and tags, by JSON merge patch: a value replaces that of its key, null removes it.

    Tags are replaced as a whole. Searches see the change at once.
    """
    metadata = patch.metadata
    if metadata:
        check_metadata(metadata)
    tags = None if patch.tags is None else check_tags(patch.tags)
    with budget(services.settings.api.store_budget_s):
        return DocumentView.of(await patch_document(services.documents, document.id, metadata, tags))


@router.post("/collections/{collection}/documents/delete")
async def delete_matching(
    collection: CollectionDep, wanted: DeleteRequest, services: ServicesDep, remover: RemoverDep
) -> DeleteView:
    """Remove the documents for which the filter holds, up to 1,000 in a request. `dry_run`: only count them.

    No search finds any of them once the first has been removed.
    """
    where = parse_filter(wanted.filter)
    with budget(services.settings.api.store_budget_s):
        await services.documents.require_active(collection)
        count = await services.documents.count(collection, where)
        first = await services.documents.list(collection, where=where, limit=_SHOWN)
    deleted = 0 if wanted.dry_run else await remover.delete_matching(collection, where, _DELETED_AT_ONCE)
    return DeleteView(
        count=count,
        document_ids=[document.id for document in first],
        deleted=deleted,
        remaining=0 if wanted.dry_run else max(0, count - deleted),
    )


@router.delete("/collections/{collection}", status_code=204)
async def delete_collection(collection: CollectionDep, remover: RemoverDep) -> None:
    """Remove the documents of a collection, the collection, and its archive. 204 also where there is none.

    After 503, repeat the request, or wait for the janitor.
    """
    await remover.delete_collection(collection)
