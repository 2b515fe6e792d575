"""Translate MongoDB's exceptions into IngestError."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, ParamSpec, TypeVar

import pymongo
from bson.errors import BSONError
from pymongo.errors import BulkWriteError, ConnectionFailure, DocumentTooLarge, OperationFailure, PyMongoError

from ingestion.adapters.tls import refused_client
from ingestion.concurrency.deadline import limit_s, remaining_s
from ingestion.errors import BadRequest, DependencyRefused, DependencyUnavailable, IngestError, WorkerFault

DEPENDENCY: Final = "mongodb"
DUPLICATE: Final = 11_000
"""The error code of a write that would give two records one `_id`."""

P = ParamSpec("P")
T = TypeVar("T")

# Error codes of the server: a missing privilege, a full disk. An operator has to correct these.
_UNABLE: Final = frozenset({33, 14031})
_REFUSED: Final = {
    13: "the user of PAGEMILL_MONGO_URI lacks a right",
    18: "check user, password and authSource in PAGEMILL_MONGO_URI",
    8000: "check user and password in PAGEMILL_MONGO_URI",
}
"""By error code of the server; 8000 is Atlas's."""
_CODE: Final = re.compile(r"'code': (\d+)")
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_CLIENT_ERRORS = (PyMongoError, BSONError, UnicodeError)
_UNFORESEEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""Raised while a record or an answer is read that this release cannot have written."""


def translate(error: Exception) -> IngestError:
    """Return the IngestError for an exception of pymongo, motor or bson."""
    if isinstance(error, BulkWriteError):
        return _translate_bulk(error)
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, DocumentTooLarge | BSONError | UnicodeError):
        return BadRequest(f"{DEPENDENCY} cannot hold this record: {message}")
    if advice := _REFUSED.get(_server_code(error)):
        return DependencyRefused(DEPENDENCY, f"{advice} ({error})")
    if _UNTRUSTED in message:
        # The driver keeps the cause only in the text of its error.
        return DependencyRefused(DEPENDENCY, f"check the certificate, or tlsCAFile in PAGEMILL_MONGO_URI ({message})")
    if refused := refused_client(message, "MongoDB", "tlsCertificateKeyFile in PAGEMILL_MONGO_URI"):
        return DependencyRefused(DEPENDENCY, refused)
    if isinstance(error, ConnectionFailure) or (isinstance(error, PyMongoError) and error.timeout):
        return DependencyUnavailable(DEPENDENCY, message)
    if isinstance(error, OperationFailure) and error.code in _UNABLE:
        return DependencyUnavailable(DEPENDENCY, message)
    return WorkerFault(f"{DEPENDENCY}: {message}")


def _server_code(error: Exception) -> int:
    """Return the server's code; 0 without one.

    After a failed login the driver raises errors that no server answers, with the code in their text alone.
    """
    if isinstance(error, OperationFailure):
        return error.code or 0
    found = _CODE.search(str(error)) if isinstance(error, ConnectionFailure) else None
    return int(found[1]) if found else 0


def _translate_bulk(error: BulkWriteError) -> IngestError:
    """Translate the first write that failed. The exception's own text contains whole records."""
    details = error.details or {}
    if not details.get("writeErrors"):  # Only the write concern failed: too few servers have the write.
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
        with translating(), _in_time():
            return await method(*args, **kwargs)

    return call


@contextmanager
def translating() -> Iterator[None]:
    """Translate the exceptions that leave the block, as `translated` does for a function."""
    try:
        yield
    except _CLIENT_ERRORS as error:
        raise translate(error) from error
    except _UNFORESEEN as error:
        raise WorkerFault(f"{DEPENDENCY}: {type(error).__name__}: {error}") from error


def _in_time() -> AbstractContextManager[Any]:
    """End requests, server selection and the driver's one retry with the caller's budget."""
    left_s = remaining_s()
    return nullcontext() if left_s is None else pymongo.timeout(limit_s(DEPENDENCY, left_s))
