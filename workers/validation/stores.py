"""An upload in all three stores, and a delete that leaves nothing in any of them."""

from __future__ import annotations

from typing import Final

from ingestion.bootstrap import Services
from ingestion.client.answers import ApiError
from ingestion.errors import NotFound
from ingestion.model import Document, DocumentState, document_prefix
from workers.audit.mismatch import NotJudged
from workers.janitor import auditor_of
from workers.validation.context import Context
from workers.validation.finding import Finding, failed, judged, skipped

_PAGES: Final = 6


async def upload_in_all_stores(context: Context) -> Finding:
    services = context.services
    if services is None:
        return skipped(f"the stores cannot be compared: {context.no_services}")
    view = await context.ingest("in-all-stores", _PAGES)
    if view.state is not DocumentState.READY:
        return failed(f"the document became {view.state.value}", error=view.error.code if view.error else "")
    document = await services.documents.get(view.document_id)
    if document is None:
        return failed(f"MongoDB has no record of document {view.document_id}: the settings name another database")
    held = await _held(services, document)
    not_judged = NotJudged()
    audit = auditor_of(services).mismatches(collection=context.collection, not_judged=not_judged)
    problems = [f"{one.store} {one.kind.value}: {one.what} ({one.count})" async for one in audit]
    problems += [f"not judged: {what}: {cause}" for what, cause in not_judged.causes.items()]
    problems += [f"no {what}" for what, count in held.items() if not count]
    return judged(problems, "the audit finds no difference between MongoDB, S3 and Milvus", **held)


async def delete_in_all_stores(context: Context) -> Finding:
    view = await context.ingest("to-be-deleted", 2)
    services = context.services
    document = await services.documents.get(view.document_id) if services else None
    await context.api.delete(view.document_id)
    context.subjects.pop(view.document_id, None)
    problems = [] if await _is_gone(context, view.document_id) else ["the API still shows the document"]
    if services is None or document is None:
        where = f"the stores were not looked at: {context.no_services or 'another database'}"
        return judged(problems, "the API does not know the document any more", stores=where)
    left = await _held(services, document)
    problems += [f"{count} {what} left" for what, count in left.items() if count]
    return judged(problems, "no store holds anything of the document", **left)


async def _is_gone(context: Context, document_id: str) -> bool:
    try:
        await context.api.document(document_id)
    except ApiError as error:
        return error.code == NotFound.code
    return False


async def _held(services: Services, document: Document) -> dict[str, int]:
    """Return what each store holds of the document."""
    keys = document.page_keys
    return {
        "page records in MongoDB": len(await services.documents.pages_by_key(keys)),
        "objects in S3": len(await services.blobs.list_keys(document_prefix(document.id))),
        "rows in Milvus": await services.vectors.count_rows(document.collection, keys.start, len(keys)),
    }
