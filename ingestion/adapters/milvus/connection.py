"""Connections to Milvus. Opening one imports pymilvus, which takes most of a second: never on the event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import grpc

from ingestion.adapters.milvus.certificates import pymilvus_options, require_accepted
from ingestion.adapters.milvus.errors import DEPENDENCY
from ingestion.adapters.milvus.rows import RowWriter
from ingestion.adapters.milvus.search import RowSearcher
from ingestion.concurrency.deadline import limit_s
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_CONNECT_TIMEOUT_S: Final = 5.0
_KEEPALIVE: Final = (("grpc.keepalive_time_ms", 330_000), ("grpc.keepalive_permit_without_calls", 0))
"""By default a gRPC server drops a client that pings more often than every five minutes during a request, or every two
hours without one. pymilvus pings every ten seconds, always."""
_RECONNECT_MS: Final = 2_000
"""By default gRPC waits up to two minutes before it connects again to a server that was down."""
_OPTIONS: Final = (*_KEEPALIVE, ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS))


def connect(settings: MilvusSettings) -> MilvusClient:
    from pymilvus import MilvusClient

    try_once()
    require_accepted(settings)
    # pymilvus logs every error with a traceback. Here each error is translated and raised to the caller.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return MilvusClient(
        uri=settings.milvus_uri,
        token=settings.milvus_token.get_secret_value(),
        timeout=limit_s(DEPENDENCY, _CONNECT_TIMEOUT_S),
        grpc_options=dict(_KEEPALIVE),
        **pymilvus_options(settings),
    )


def try_once() -> None:
    """Make pymilvus raise gRPC's errors at once. By default it repeats the request until its timeout."""
    from pymilvus import decorators

    decorators.IGNORE_RETRY_CODES = tuple(grpc.StatusCode)


class Budgeted:
    """The settings, whose limit of one request ends with the caller's budget of time."""

    def __init__(self, settings: MilvusSettings) -> None:
        self._settings = settings

    @property
    def milvus_timeout_s(self) -> float:
        """Raises DependencyUnavailable where no time is left."""
        return limit_s(DEPENDENCY, self._settings.milvus_timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings, name)


def open_writer(settings: MilvusSettings) -> RowWriter:
    """Connects at its first request."""
    return RowWriter(settings, _OPTIONS)


def open_searcher(settings: MilvusSettings) -> RowSearcher:
    """Connects at its first request."""
    return RowSearcher(settings, _OPTIONS)
