"""Reads whole rows back from Milvus. Only the archiving of a collection does that."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ingestion.model import ROWS_PER_PAGE, Vectors

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def read_rows(client: MilvusClient, name: str, rows: str, timeout_s: float) -> dict[int, Vectors]:
    """The vectors of the rows that the filter `rows` names, by page key, in the order of patches.

    Raises MilvusException, grpc.RpcError.
    """
    found = client.query(
        name,
        filter=rows,
        output_fields=["pk", "vector"],
        consistency_level="Strong",
        timeout=timeout_s,
        strict_float32=True,  # as an array and not as a list of Python numbers, at an eighth of the memory
    )
    if not found:
        return {}
    keys = np.fromiter((row["pk"] for row in found), np.int64, len(found))  # (rows,)
    vectors = np.array([row["vector"] for row in found], np.float32)  # (rows, dim)
    order = np.argsort(keys)
    pages = keys[order] // ROWS_PER_PAGE
    starts = np.flatnonzero(np.diff(pages, prepend=pages[0] - 1))
    return {int(pages[start]): vectors[order[start:stop]] for start, stop in pairwise([*starts.tolist(), len(pages)])}
