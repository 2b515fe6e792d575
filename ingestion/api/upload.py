"""Uploading: many files in one request, each accepted or refused on its own."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ingestion import metrics
from ingestion.api.context import TheServices, TheSubmitter, TheUsage
from ingestion.api.multipart import FileParser
from ingestion.api.problems import problem, status_of
from ingestion.api.spool import Limits, Refusal, receive
from ingestion.api.views import AcceptedView, RefusedView, UploadView
from ingestion.bootstrap import Services
from ingestion.deadline import budget
from ingestion.errors import BadRequest, PermanentError
from ingestion.model import Document, check_collection
from ingestion.submit import Submitter
from ingestion.usage import Usage

log = structlog.get_logger(__name__)
router = APIRouter(tags=["upload"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


@router.post("/collections/{collection}/documents", status_code=202, response_model=UploadView, openapi_extra=_BODY)
async def upload_documents(
    collection: str, request: Request, services: TheServices, submitter: TheSubmitter, usage: TheUsage
) -> Response:
    """Upload one PDF or many, in fields `files`. The same file under the same name is the same document."""
    return await _upload(check_collection(collection), request, services, submitter, usage)


@router.post("/upload/{user}/{conversation}", status_code=202, response_model=UploadView, openapi_extra=_BODY)
async def upload_to_conversation(
    user: str,
    conversation: str,
    request: Request,
    services: TheServices,
    submitter: TheSubmitter,
    usage: TheUsage,
) -> Response:
    """The same under LAYRA's address: the conversation is the collection, and the user is logged."""
    log.info("upload", user=user, collection=conversation)
    return await _upload(check_collection(conversation), request, services, submitter, usage)


async def _upload(
    collection: str, request: Request, services: Services, submitter: Submitter, usage: Usage
) -> Response:
    """Files are submitted while the request is still being read, so a request that breaks off has stored some of them.

    Repeating it is safe: what was stored is then found.
    """
    api = services.settings.api
    with budget(api.store_budget_s):
        await services.documents.require_active(collection)
        await usage.note(collection)
    limits = Limits(max_file_bytes=api.max_file_bytes, max_files=api.max_files_per_upload)
    parser = FileParser(request.headers.get("content-type", ""))
    accepted: list[Document] = []
    refused: list[Refusal] = []
    async with aclosing(receive(request.stream(), parser, api.spool_dir, limits)) as files:
        async for file in files:
            if isinstance(file, Refusal):
                refused.append(file)
                continue
            try:
                accepted.append(await submitter.submit(collection, file))
            except PermanentError as error:
                refused.append(Refusal(file.filename, error))
    return _answer(collection, accepted, refused)


def _answer(collection: str, accepted: list[Document], refused: list[Refusal]) -> Response:
    for one in refused:
        metrics.REFUSED.labels(one.error.code).inc()
        log.info("refused", collection=collection, filename=one.filename, code=one.error.code, cause=str(one.error))
    view = UploadView(
        documents=[AcceptedView.of(document) for document in accepted],
        refused=[RefusedView(filename=r.filename, code=r.error.code, detail=r.error.message) for r in refused],
    )
    if accepted:
        return JSONResponse(view.model_dump(mode="json"), status_code=202)
    if not refused:
        raise BadRequest("the upload holds no file in the field 'files'")
    first = refused[0]
    detail = f"{first.filename}: {first.error.message}"
    return problem(
        status_of(first.error), first.error.code, detail, **view.model_dump(mode="json", include={"refused"})
    )
