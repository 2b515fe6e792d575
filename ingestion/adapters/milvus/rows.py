"""Writes the rows of pages to Milvus, as columns in messages of the Milvus protocol.

pymilvus's client takes rows as dictionaries and makes a Python object of every number of a vector: 14 ms of CPU for a
page of 768 vectors of 128 dimensions. A Protocol Buffers message holds vectors as little-endian float32, as memory
does. So this copies them as bytes, in 0.3 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from ingestion.adapters.milvus.channel import MilvusChannel, check
from ingestion.errors import WorkerFault
from ingestion.model import ROWS_PER_PAGE, PageVectors
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from ingestion.adapters.milvus.protocol import UpsertRequest

_REQUEST_BYTES: Final = 8 * 1024**2
"""Bytes of vectors in one request. Servers refuse messages above 64 MB, and a small message blocks others less."""
_PACKED_DATA: Final = b"\x0a"
"""Field 1, length-delimited: `data` of the message FloatArray."""


class RowWriter:
    """Sends upserts over a connection of its own. Safe to use from many threads."""

    def __init__(self, settings: MilvusSettings, options: Sequence[tuple[str, int]]) -> None:
        """As `MilvusChannel`."""
        from ingestion.adapters.milvus.protocol import MutationResult, UpsertRequest

        self._channel = MilvusChannel(settings, options)
        self._send = self._channel.method("Upsert", UpsertRequest.SerializeToString, MutationResult.FromString)

    def write(self, name: str, pages: Sequence[PageVectors], timeout_s: float) -> None:
        """Upsert the rows of `pages` into the Milvus collection `name`. `timeout_s` is for each request.

        Raises WorkerFault where a page has too many vectors, MilvusException, grpc.RpcError.
        """
        for request in upsert_requests(name, pages):
            request.db_name = self._channel.database
            check(self._send(request, timeout_s=timeout_s).status)

    def close(self) -> None:
        self._channel.close()


def upsert_requests(name: str, pages: Sequence[PageVectors]) -> Iterator[UpsertRequest]:
    """The rows of `pages`, whose vectors have one dimension, in requests of up to _REQUEST_BYTES."""
    for page in pages:
        if len(page.vectors) > ROWS_PER_PAGE:
            raise WorkerFault(
                f"page {page.page.page_number} has {len(page.vectors)} vectors; {ROWS_PER_PAGE} are possible"
            )
    filled = [page for page in pages if len(page.vectors)]
    if not filled:
        return
    keys = np.concatenate([np.full(len(page.vectors), page.page_key, np.int64) for page in filled])  # (rows,)
    patches = np.concatenate([np.arange(len(page.vectors), dtype=np.int64) for page in filled])  # (rows,)
    vectors = np.concatenate([page.vectors for page in filled])  # (rows, dim)
    step = max(1, _REQUEST_BYTES // (4 * vectors.shape[1]))
    for start, end in pairwise([*range(0, len(keys), step), len(keys)]):
        rows = slice(start, end)
        yield _request(name, keys[rows], patches[rows], vectors[rows])


def _request(name: str, keys: np.ndarray, patches: np.ndarray, vectors: np.ndarray) -> UpsertRequest:
    from pymilvus import DataType

    from ingestion.adapters.milvus.protocol import UpsertRequest

    request = UpsertRequest(collection_name=name, num_rows=len(keys))
    for field, values in (("pk", keys * ROWS_PER_PAGE + patches), ("page_key", keys)):
        column = request.fields_data.add(type=DataType.INT64, field_name=field)
        column.scalars.long_data.data.extend(values.tolist())
    column = request.fields_data.add(type=DataType.FLOAT_VECTOR, field_name="vector")
    column.vectors.dim = vectors.shape[1]
    packed = vectors.astype("<f4", copy=False).tobytes()
    column.vectors.float_vector.MergeFromString(_PACKED_DATA + _varint(len(packed)) + packed)
    return request


def _varint(number: int) -> bytes:
    """A length as Protocol Buffers write it: seven bits a byte, lowest first, the top bit set on all but the last."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
