"""Workarounds for Milvus Lite, the stand-in of the local stack. It names itself when it is asked for its version."""

from __future__ import annotations

from typing import Final

LITE: Final = "milvus_lite"
"""The version of Milvus Lite begins so."""

LITE_TYPES: Final = frozenset({"HNSW", "HNSW_SQ"})
"""The index types that it makes. It accepts any other type, and fails when it loads the collection."""

HELD_TYPE: Final = "HNSW"
"""In place of the type that a collection has: when it is asked for an index it counts all rows, and the types that it
makes have the same search parameters."""

OUTPUT_FIELDS: Final = ("page_key",)
"""The fields that a search asks for. Where a request names none, it sends all of them, the vector included: 1.5 KB for
each row in place of 14 bytes."""


def nested(parameters: dict[str, object]) -> dict[str, object]:
    """Return the parameters of an index as Milvus Lite reads them. pymilvus 3 sends them flat."""
    return {**parameters, "params": dict(parameters)}
