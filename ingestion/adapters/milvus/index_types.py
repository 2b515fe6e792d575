"""The index types that Pagemill makes in Milvus: their parameters for building and for searching.

Names and ranges are those of Milvus's documentation: docs/scaling.md says which were run against a server.
"""

from __future__ import annotations

from typing import Final

from ingestion.settings import MilvusSettings

NEEDED: Final = {
    "HNSW": "Milvus 2.0 or later",
    "HNSW_SQ": "Milvus 2.5 or later, or Milvus Lite",
    "DISKANN": "Milvus 2.2 or later, built with disk indexes, whose index nodes and query nodes have a local disk",
    "IVF_RABITQ": "Milvus 2.6 or later",
}
"""Index type -> the servers that make it."""

SINCE: Final = {"HNSW": (2, 0), "HNSW_SQ": (2, 5), "DISKANN": (2, 2), "IVF_RABITQ": (2, 6)}
"""Index type -> the first release of Milvus that makes it."""

MMAP: Final = "mmap.enabled"
"""A parameter of an index, and a property of a collection."""
MMAP_SINCE: Final = (2, 4)

_IVF_PREFIXES: Final = ("IVF_", "SCANN")
_SHORT_LIMIT_LISTED: Final = 200
_LISTED_FOR_EACH_ROW: Final = 10
_MOST_LISTED: Final = 65_535
"""Milvus 2.2 and 2.3 take a `search_list` of at most 10 times the rows asked for, or 200, and at most 65,535."""


def build_parameters(settings: MilvusSettings) -> dict[str, object]:
    """The parameters of the index type that `settings` name.

    DISKANN has none: `common.DiskIndex` of the server's configuration sets its graph and its cache.
    """
    if settings.index_type == "DISKANN":
        return {}
    if settings.index_type == "IVF_RABITQ":
        refined = settings.rabitq_refine_type
        refine = {} if refined == "NONE" else {"refine": "true", "refine_type": refined}
        return {"nlist": settings.ivf_nlist, **refine}
    graph: dict[str, object] = {"M": settings.hnsw_m, "efConstruction": settings.hnsw_ef_construction}
    return {**graph, "sq_type": settings.index_sq_type} if settings.index_type == "HNSW_SQ" else graph


def search_parameters(index_type: str, limit: int, settings: MilvusSettings) -> dict[str, object]:
    """The parameters of a search for `limit` rows in an index of `index_type`, which need not be that of `settings`.

    Empty for a type that Pagemill does not make: the server's defaults apply.
    """
    if index_type.startswith("HNSW"):
        return {"ef": max(settings.hnsw_ef, limit)}
    if index_type == "DISKANN":
        most = min(_MOST_LISTED, max(_SHORT_LIMIT_LISTED, _LISTED_FOR_EACH_ROW * limit))
        return {"search_list": min(max(settings.diskann_search_list, limit), most)}
    if index_type.startswith(_IVF_PREFIXES):
        return {"nprobe": settings.ivf_nprobe}
    return {}
