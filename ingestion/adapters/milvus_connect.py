"""Connections to Milvus. Making one imports pymilvus, which takes most of a second: so not on the event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ingestion.adapters.milvus_rows import RowWriter
from ingestion.adapters.milvus_search import RowSearcher
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_CONNECT_TIMEOUT_S: Final = 5.0
_KEEPALIVE_MS: Final = 330_000
"""gRPC servers that were told nothing else drop whoever pings more often than every five minutes during a request,
and pymilvus would ping every ten seconds."""
_RECONNECT_MS: Final = 2_000
"""By default gRPC waits up to two minutes before it tries a server again that was down."""
_OPTIONS: Final = (("grpc.keepalive_time_ms", _KEEPALIVE_MS), ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS))


def connect(settings: MilvusSettings) -> MilvusClient:
    from pymilvus import MilvusClient

    # It logs every error with a traceback. Here each one is raised, translated, to whoever asked.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return MilvusClient(
        uri=settings.milvus_uri,
        token=settings.milvus_token.get_secret_value(),
        timeout=_CONNECT_TIMEOUT_S,
        grpc_options={"grpc.keepalive_time_ms": _KEEPALIVE_MS},
    )


def open_writer(settings: MilvusSettings) -> RowWriter:
    """Connects at its first request."""
    return RowWriter(settings.milvus_uri, settings.milvus_token.get_secret_value(), _OPTIONS)


def open_searcher(settings: MilvusSettings) -> RowSearcher:
    """Connects at its first request."""
    return RowSearcher(settings.milvus_uri, settings.milvus_token.get_secret_value(), _OPTIONS)
