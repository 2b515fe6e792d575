"""Translates exceptions of pymilvus. It is imported only where it is used: that takes most of a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import grpc

from ingestion.errors import BadRequest, DependencyRefused, DependencyUnavailable, IngestError, WorkerFault

T = TypeVar("T")

DEPENDENCY = "milvus"

# Codes of the server, the same since Milvus 2.3.
NOT_FOUND: Final = 100
NOT_LOADED: Final = 101
_RATE_LIMITED: Final = 8
# Unavailable, out of memory, too many requests, out of disk, rate limit, quota; the client adds: no connection.
_UNAVAILABLE: Final = frozenset({2, 3, 4, 7, 8, 9, NOT_LOADED})
_UNAVAILABLE_STATUS: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
_REFUSED_STATUS: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
_REFUSED_LOGIN: Final = "auth check failure"
"""Milvus says this of a wrong token, with a code that it uses for all unforeseen errors."""
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
"""gRPC says this of a certificate that is not accepted. pymilvus shows it only after it has been connected."""
_TOO_LARGE: Final = "larger than max"
"""gRPC says this of a message above its limit. The status alone would also mean a server without memory."""


def milvus_code(error: Exception) -> int | None:
    """The server's code in an exception of pymilvus, None for any other exception."""
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def is_lost(error: Exception) -> bool:
    """True where the same request may succeed soon: its connection was lost, or the server had too many requests."""
    return _status(error) is grpc.StatusCode.UNAVAILABLE or milvus_code(error) == _RATE_LIMITED


def translate(error: Exception) -> IngestError:
    """An exception of pymilvus, or of gRPC below it, as one of ours."""
    message = f"{type(error).__name__}: {error}"
    if _TOO_LARGE in message:
        return BadRequest(f"{DEPENDENCY} takes no request or answer of this size: {message}")
    if _status(error) in _REFUSED_STATUS or _REFUSED_LOGIN in message:
        return DependencyRefused(DEPENDENCY, f"check PAGEMILL_MILVUS_TOKEN and the rights of its user ({message})")
    if _UNTRUSTED in message:
        return DependencyRefused(DEPENDENCY, f"check the certificate, or PAGEMILL_MILVUS_CAFILE ({message})")
    if isinstance(error, grpc.FutureTimeoutError) or _status(error) in _UNAVAILABLE_STATUS:
        return DependencyUnavailable(DEPENDENCY, message)
    if milvus_code(error) in _UNAVAILABLE or getattr(error, "retriable", False):
        return DependencyUnavailable(DEPENDENCY, message)
    return WorkerFault(f"{DEPENDENCY}: {message}")


def _status(error: Exception) -> object:
    """The gRPC status: a method of gRPC's exceptions, an attribute of pymilvus's after its last retry."""
    code = getattr(error, "code", None)
    return code() if callable(code) else code


def translated(request: Callable[[], T]) -> Callable[[], T]:
    def call() -> T:
        from pymilvus.exceptions import MilvusException

        try:
            return request()
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise translate(error) from error

    return call
