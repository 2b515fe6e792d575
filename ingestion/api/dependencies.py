"""FastAPI dependencies that return the objects in the application's state.

They are coroutines because FastAPI calls plain functions in a thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from ingestion.api.auth import principal_of
from ingestion.bootstrap import Services
from ingestion.cancel import Canceller
from ingestion.concurrency.deadline import budget
from ingestion.errors import CollectionArchived, NotFound
from ingestion.keys.authenticator import Authenticator
from ingestion.model import Document, Principal, qualified_name, tenant_of
from ingestion.removal import Remover
from ingestion.replay.replayer import Replayer
from ingestion.search import Searcher
from ingestion.submit import Submitter
from ingestion.system import SystemReader
from ingestion.usage import UsageRecorder
from ingestion.viewing.highlights import Highlighter
from ingestion.viewing.images import PageImages


def _in_state(name: str) -> Callable[[Request], Awaitable[Any]]:
    async def read(request: Request) -> Any:
        return getattr(request.app.state, name)

    return read


PrincipalDep = Annotated[Principal, Depends(principal_of)]
ServicesDep = Annotated[Services, Depends(_in_state("services"))]
SubmitterDep = Annotated[Submitter, Depends(_in_state("submitter"))]
SearcherDep = Annotated[Searcher, Depends(_in_state("searcher"))]
RemoverDep = Annotated[Remover, Depends(_in_state("remover"))]
CancellerDep = Annotated[Canceller, Depends(_in_state("canceller"))]
ReplayerDep = Annotated[Replayer, Depends(_in_state("replayer"))]
SystemDep = Annotated[SystemReader, Depends(_in_state("system"))]
UsageDep = Annotated[UsageRecorder, Depends(_in_state("usage"))]
PageImagesDep = Annotated[PageImages, Depends(_in_state("page_images"))]
HighlighterDep = Annotated[Highlighter, Depends(_in_state("highlighter"))]
AuthenticatorDep = Annotated[Authenticator, Depends(_in_state("authenticator"))]


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
