"""The messages of the Milvus protocol (milvus-proto) that are sent without pymilvus's client.

pymilvus generates these classes for itself. Only this module imports them. Importing pymilvus takes most of a second,
so import this module where a message is made, never at the top of a module.
"""

from __future__ import annotations

from pymilvus.grpc_gen.common_pb2 import (
    ConsistencyLevel,
    DslType,
    KeyValuePair,
    PlaceholderGroup,
    PlaceholderType,
    PlaceholderValue,
    Status,
)
from pymilvus.grpc_gen.milvus_pb2 import MutationResult, SearchRequest, SearchResults, UpsertRequest

__all__ = [
    "ConsistencyLevel",
    "DslType",
    "KeyValuePair",
    "MutationResult",
    "PlaceholderGroup",
    "PlaceholderType",
    "PlaceholderValue",
    "SearchRequest",
    "SearchResults",
    "Status",
    "UpsertRequest",
]
