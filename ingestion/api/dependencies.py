"""FastAPI dependencies that return the objects in the application's state.

They are coroutines because FastAPI calls plain functions in a thread.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ingestion.api.auth import principal_of
from ingestion.bootstrap import Services
from ingestion.concurrency.deadline import budget
from ingestion.errors import CollectionArchived, NotFound
from ingestion.keys.authenticator import Authenticator
from ingestion.model import Document, Principal, qualified_name, tenant_of
from ingestion.removal import Remover
from ingestion.search import Searcher
from ingestion.submit import Submitter
from ingestion.usage import UsageRecorder
from ingestion.viewing.highlights import Highlighter
from ingestion.viewing.images import PageImages


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _submitter(request: Request) -> Submitter:
    submitter: Submitter = request.app.state.submitter
    return submitter


async def _searcher(request: Request) -> Searcher:
    searcher: Searcher = request.app.state.searcher
    return searcher


async def _remover(request: Request) -> Remover:
    remover: Remover = request.app.state.remover
    return remover


async def _usage(request: Request) -> UsageRecorder:
    usage: UsageRecorder = request.app.state.usage
    return usage


async def _page_images(request: Request) -> PageImages:
    images: PageImages = request.app.state.page_images
    return images


async def _highlighter(request: Request) -> Highlighter:
    highlighter: Highlighter = request.app.state.highlighter
    return highlighter


async def _authenticator(request: Request) -> Authenticator:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


PrincipalDep = Annotated[Principal, Depends(principal_of)]
ServicesDep = Annotated[Services, Depends(_services)]
SubmitterDep = Annotated[Submitter, Depends(_submitter)]
SearcherDep = Annotated[Searcher, Depends(_searcher)]
RemoverDep = Annotated[Remover, Depends(_remover)]
UsageDep = Annotated[UsageRecorder, Depends(_usage)]
PageImagesDep = Annotated[PageImages, Depends(_page_images)]
HighlighterDep = Annotated[Highlighter, Depends(_highlighter)]
AuthenticatorDep = Annotated[Authenticator, Depends(_authenticator)]


async def _collection(collection: str, principal: PrincipalDep) -> str:
    """The qualified name of the collection in the address. Raises BadRequest."""
    return qualified_name(principal.tenant, collection)


async def own_document(document_id: str, principal: PrincipalDep, services: ServicesDep) -> Document:
    """The document, if it is of the caller's tenant. Raises NotFound, CollectionArchived, DependencyUnavailable."""
    with budget(services.settings.api.store_budget_s):
        document = await services.documents.get(document_id)
        collection = document.collection if document else await services.documents.archived_collection(document_id)
    if collection is None or tenant_of(collection) != principal.tenant:
        raise NotFound(f"no document {document_id}")
    if document is None:
        raise CollectionArchived(f"document {document_id} is archived; restore its collection first, or drop it")
    return document


CollectionDep = Annotated[str, Depends(_collection)]
"""The qualified name of the collection in the address: that of the caller's tenant."""
DocumentDep = Annotated[Document, Depends(own_document)]
"""The document in the address, which is of the caller's tenant. Its record was read for this request."""
