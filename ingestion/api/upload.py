"""Upload routes: one request may hold many files; each file is accepted or refused on its own."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ingestion import metrics
from ingestion.api.dependencies import CollectionDep, PrincipalDep, ServicesDep, SubmitterDep, UsageDep
from ingestion.api.multipart import FileParser
from ingestion.api.problems import problem, status_of
from ingestion.api.spool import RefusedFile, UploadLimits, spool_files
from ingestion.api.upload_fields import FIELDS, FORM_PROPERTIES, UploadFields
from ingestion.api.views import AcceptedView, RefusedView, UploadView
from ingestion.bootstrap import Services
from ingestion.concurrency.deadline import budget
from ingestion.errors import BadRequest, FormTooLarge, PermanentError, QuotaExceeded
from ingestion.model import Document, Priority, qualified_name
from ingestion.submit import Submitter
from ingestion.usage import UsageRecorder

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
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        **FORM_PROPERTIES,
                    },
                }
            }
        },
    }
}


@router.post("/collections/{collection}/documents", status_code=202, response_model=UploadView, openapi_extra=_BODY)
async def upload_documents(
    collection: CollectionDep,
    request: Request,
    services: ServicesDep,
    submitter: SubmitterDep,
    usage: UsageDep,
) -> Response:
    """Upload one or more files in form fields named `files`: PDFs, pictures, office files or texts.

    The fields `metadata`, `tags`, `key`, `duplicates` and `priority` apply to all files, and come before them. A file
    with a `key` replaces the one with the same key in the collection once it is ready.

    The same file with the same name is the same document: a repeated upload returns it.
    """
    return await _upload(collection, request, services, submitter, usage, Priority.BULK)


@router.post("/upload/{user}/{conversation}", status_code=202, response_model=UploadView, openapi_extra=_BODY)
async def upload_to_conversation(
    user: str,
    conversation: str,
    request: Request,
    principal: PrincipalDep,
    services: ServicesDep,
    submitter: SubmitterDep,
    usage: UsageDep,
) -> Response:
    """The same route under LAYRA's address: the conversation is the collection, and the user is logged.

    The default of `priority` is `interactive` here.
    """
    collection = qualified_name(principal.tenant, conversation)
    log.info("upload", user=user, collection=collection)
    return await _upload(collection, request, services, submitter, usage, Priority.INTERACTIVE)


async def _upload(
    collection: str,
    request: Request,
    services: Services,
    submitter: Submitter,
    usage: UsageRecorder,
    priority: Priority,
) -> Response:
    """Files are submitted while the request is being read. A request that breaks off may have stored some files.

    Repeating the request is safe: a stored file is found again.
    """
    api = services.settings.api
    with budget(api.store_budget_s):
        await services.documents.require_active(collection)
        await usage.record(collection)
    limits = UploadLimits(max_file_bytes=api.max_file_bytes, max_files=api.max_files_per_upload)
    parser = FileParser(request.headers.get("content-type", ""), limits.max_parts, FIELDS)
    fields = UploadFields(priority)
    result = UploadResult(collection)
    try:
        async with aclosing(spool_files(request.stream(), parser, api.spool_dir, limits, fields.add)) as files:
            async for file in files:
                if isinstance(file, RefusedFile):
                    result.refused.append(file)
                    continue
                options = fields.options()
                try:
                    result.accepted.append(await submitter.submit(collection, file, options))
                except PermanentError as error:
                    result.refused.append(RefusedFile(file.filename, error))
    except FormTooLarge as error:
        result.form_error = error
    except BadRequest as error:
        if not result.accepted:
            raise
        result.form_error = error
    return _answer(result)


@dataclass(slots=True)
class UploadResult:
    """The accepted and refused files of one request."""

    collection: str
    accepted: list[Document] = field(default_factory=list)
    refused: list[RefusedFile] = field(default_factory=list)
    form_error: FormTooLarge | BadRequest | None = None
    """Set where the rest of the request was not read."""

    def count(self) -> None:
        """Count refused files by code, and log one line for all of them."""
        codes = Counter(file.error.code for file in self.refused)
        for code, number in codes.items():
            metrics.REFUSED.labels(code).inc(number)
        if self.refused:
            first = self.refused[0]
            log.info(
                "refused",
                collection=self.collection,
                codes=dict(codes),
                filename=first.filename,
                cause=first.error.message,
            )

    def view(self) -> UploadView:
        return UploadView(
            documents=[AcceptedView.of(document) for document in self.accepted],
            refused=[
                RefusedView(filename=file.filename, code=file.error.code, detail=file.error.message)
                for file in self.refused
            ],
        )


def _answer(result: UploadResult) -> Response:
    result.count()
    view = result.view().model_dump(mode="json")
    if error := result.form_error:
        detail = f"{error.message}; the rest was not read. Earlier files are in `documents` and `refused`"
        return problem(status_of(error), error.code, detail, **view)
    if result.accepted:
        return JSONResponse(view, status_code=202)
    if not result.refused:
        raise BadRequest("the form has no file in a field named 'files'")
    first = result.refused[0]
    detail = f"{first.filename}: {first.error.message}"
    headers = {"Retry-After": str(first.error.retry_after_s)} if isinstance(first.error, QuotaExceeded) else None
    return problem(status_of(first.error), first.error.code, detail, headers=headers, refused=view["refused"])
