"""Documents and pages as MongoDB records, and MongoDB's exceptions as ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, Final, ParamSpec, TypeVar

import pymongo
import structlog
from bson.errors import BSONError
from bson.int64 import Int64
from pymongo.errors import BulkWriteError, ConnectionFailure, DocumentTooLarge, OperationFailure, PyMongoError

from ingestion.adapters.mongo.fields import Reader, moment_of
from ingestion.catalogue.generations import FIRST
from ingestion.concurrency.deadline import limit_s, remaining_s
from ingestion.errors import BadRecord, BadRequest, DependencyUnavailable, IngestError, WorkerFault
from ingestion.model import MAX_PAGE_KEY, Document, DocumentState, Failure, PageRecord

DEPENDENCY = "mongodb"

log = structlog.get_logger(__name__)

UNREADABLE: Final = "unreadable"
"""The state that a document without a readable one is shown in."""

P = ParamSpec("P")
T = TypeVar("T")

Record = Mapping[str, Any]

# Error codes of the server: no right to do this, no login, a full disk. Whoever runs the system must mend it.
_UNABLE: Final = frozenset({13, 18, 33, 14031})
_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_CLIENT_ERRORS = (PyMongoError, BSONError, UnicodeError)
_UNFORESEEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What comes of a record, or of an answer, that is not as this release writes it."""


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
            with _in_time():
                return await method(*args, **kwargs)
        except _CLIENT_ERRORS as error:
            raise translate(error) from error
        except _UNFORESEEN as error:
            raise WorkerFault(f"{DEPENDENCY}: {type(error).__name__}: {error}") from error

    return call


def _in_time() -> AbstractContextManager[Any]:
    """Requests, the driver's waiting for a server and its one retry of each included, end with the caller's budget."""
    left_s = remaining_s()
    return nullcontext() if left_s is None else pymongo.timeout(limit_s(DEPENDENCY, left_s))


def record_of(document: Document) -> dict[str, Any]:
    fields = asdict(document)
    id_, lease_until_ms = fields.pop("id"), fields.pop("lease_until_ms")
    fields.pop("damage")
    return {
        "_id": id_,
        **fields,
        "state": document.state.value,
        "first_page_key": Int64(document.first_page_key),
        "lease_until": Int64(lease_until_ms),
    }


def document_of(record: Record) -> Document:
    """Never fails: what cannot be read is left at nothing and named in `damage`, so that the rest can be shown.

    Fields that this version does not know are left alone, so that a newer one may have added some.
    """
    reader = Reader(record)
    state = reader.text("state", UNREADABLE)
    return Document(
        id=str(record.get("_id", "")),
        collection=reader.text("collection"),
        filename=reader.text("filename"),
        object_key=reader.text("object_key"),
        sha256=reader.text("sha256"),
        size_bytes=reader.whole("size_bytes"),
        pages=reader.whole("pages", below=MAX_PAGE_KEY),
        first_page_key=reader.whole("first_page_key", below=MAX_PAGE_KEY),
        state=DocumentState(state),
        stage=reader.text("stage", optional=True),
        pages_done=reader.whole("pages_done"),
        generation=reader.whole("generation", FIRST, optional=True),
        next_generation=reader.whole("next_generation", optional=True),
        next_pages_done=reader.whole("next_pages_done", optional=True),
        dpi=reader.whole("dpi", optional=True),
        attempts=reader.whole("attempts"),
        outages=reader.whole("outages", optional=True),
        fence=reader.whole("fence"),
        owner=reader.text("owner", optional=True),
        lease_until_ms=reader.whole("lease_until"),
        outbox=reader.text("outbox"),
        letter=reader.text("letter", optional=True),
        error=_failure_of(record.get("error")),
        created_at=moment_of(record.get("created_at")),
        updated_at=moment_of(record.get("updated_at")),
        ready_at=moment_of(record.get("ready_at")),
        damage="; ".join(reader.damage),
    )


def _failure_of(error: Any) -> Failure | None:
    if not isinstance(error, Mapping):
        return None if error is None else Failure("internal", "", str(error))
    return Failure(*(str(error.get(name) or "") for name in ("code", "stage", "message")))


def page_record_of(page: PageRecord) -> dict[str, Any]:
    fields = asdict(page)
    return {"_id": Int64(fields.pop("page_key")), **fields}


def page_of(record: Record) -> PageRecord:
    """`text` is empty where the record was read without it. What it comes to in a coming generation is left out.

    Raises BadRecord.
    """
    reader = Reader(record)
    page = PageRecord(
        page_key=reader.whole("_id", below=MAX_PAGE_KEY),
        document_id=reader.text("document_id"),
        page_number=reader.whole("page_number"),
        width_px=reader.whole("width_px"),
        height_px=reader.whole("height_px"),
        patches=reader.whole("patches"),
        image_key=reader.text("image_key"),
        text=reader.text("text", optional=True),
        rows=None if record.get("rows") is None else reader.whole("rows"),
    )
    reader.require_whole("page")
    return page


def pages_of(records: Iterable[Record]) -> Iterator[PageRecord]:
    """Those that can be read. The others are logged: a page without a record is what an audit reports as missing."""
    for record in records:
        try:
            yield page_of(record)
        except BadRecord as error:
            log.warning("record left out", cause=error.message)
