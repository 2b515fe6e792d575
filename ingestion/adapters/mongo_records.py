"""Documents and pages as MongoDB records, and MongoDB's exceptions as ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from typing import Any, Final, ParamSpec, TypeVar

from bson.errors import BSONError
from bson.int64 import Int64
from pymongo.errors import BulkWriteError, ConnectionFailure, DocumentTooLarge, OperationFailure, PyMongoError

from ingestion.errors import BadRequest, DependencyUnavailable, IngestError, WorkerFault
from ingestion.model import Document, DocumentState, Failure, PageRecord

DEPENDENCY = "mongodb"

P = ParamSpec("P")
T = TypeVar("T")

Record = Mapping[str, Any]

# Error codes of the server: no right to do this, no login, a full disk. Whoever runs the system must mend it.
_UNABLE: Final = frozenset({13, 18, 33, 14031})
_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_DOCUMENT_FIELDS: Final = {field.name for field in dataclass_fields(Document)} | {"_id", "lease_until"}
_CLIENT_ERRORS = (PyMongoError, BSONError, UnicodeError)


def translate(error: Exception) -> IngestError:
    """What the pipeline calls an exception of pymongo, motor or bson."""
    if isinstance(error, BulkWriteError):
        return _translate_bulk(error)
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, DocumentTooLarge | BSONError | UnicodeError):
        return BadRequest(f"{DEPENDENCY} cannot hold this record: {message}")
    if isinstance(error, ConnectionFailure) or (isinstance(error, PyMongoError) and error.timeout):
        return DependencyUnavailable(DEPENDENCY, message)
    if isinstance(error, OperationFailure) and error.code in _UNABLE:
        return DependencyUnavailable(DEPENDENCY, message)
    return WorkerFault(f"{DEPENDENCY}: {message}")


def _translate_bulk(error: BulkWriteError) -> IngestError:
    """By the first write that failed. The exception's own text would carry whole records."""
    details = error.details or {}
    if not details.get("writeErrors"):  # Only the write concern was not met: too few servers have it so far.
        return DependencyUnavailable(DEPENDENCY, f"write concern: {details.get('writeConcernErrors')}")
    first = details["writeErrors"][0]
    message = f"{len(details['writeErrors'])} writes failed, the first with {first['code']}: {first['errmsg']}"
    if first["code"] in _TOO_LARGE:
        return BadRequest(f"{DEPENDENCY} cannot hold this record: {message}")
    return WorkerFault(f"{DEPENDENCY}: {message}")


def translated(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a coroutine function so that no exception of the client library leaves it."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except _CLIENT_ERRORS as error:
            raise translate(error) from error

    return call


def record_of(document: Document) -> dict[str, Any]:
    fields = asdict(document)
    id_, lease_until_ms = fields.pop("id"), fields.pop("lease_until_ms")
    return {
        "_id": id_,
        **fields,
        "state": document.state.value,
        "first_page_key": Int64(document.first_page_key),
        "lease_until": Int64(lease_until_ms),
    }


def document_of(record: Record) -> Document:
    """Fields that this version does not know are left alone, so that a newer one may have added some."""
    fields = {name: value for name, value in record.items() if name in _DOCUMENT_FIELDS}
    error = fields.pop("error")
    return Document(
        id=fields.pop("_id"),
        state=DocumentState(fields.pop("state")),
        lease_until_ms=int(fields.pop("lease_until")),
        error=Failure(**error) if error else None,
        **fields,
    )


def page_record_of(page: PageRecord) -> dict[str, Any]:
    fields = asdict(page)
    return {"_id": Int64(fields.pop("page_key")), **fields}


def page_of(record: Record) -> PageRecord:
    """`text` is empty where the record was read without it. What it comes to in a coming generation is left out."""
    fields = {name: value for name, value in record.items() if name != "next"}
    return PageRecord(page_key=int(fields.pop("_id")), text=fields.pop("text", ""), **fields)
