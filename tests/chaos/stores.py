"""Read all data of a run with the stores' own clients, without proxies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from minio import Minio
from pymilvus import MilvusClient

from ingestion.adapters.milvus.names import index_name
from ingestion.model import ROWS_PER_PAGE
from ingestion.settings import MilvusSettings, S3Settings
from ingestion.vectors.sign_codes import CodeSegment
from tests.chaos.rig import Rig

_FEW_PINGS: Final = {"grpc.keepalive_time_ms": 600_000}
"""The client's default keepalive pings are so frequent that a gRPC server may close the connection."""
_PAGES_PER_QUERY: Final = 200
_THREADS: Final = 8
_RIFF_HEADER_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Contents:
    """`rows`: count by primary key. `pages`: count by (page key, document, page number, patches)."""

    rows: Counter[int]
    rows_elsewhere: int
    """Rows whose key is of no reserved page."""
    pages: Counter[tuple[int, str, int, int]]
    objects: dict[str, int]
    """Size in bytes by key."""
    picture_sizes: dict[str, int]
    """The length in bytes in each image's header, by key."""
    code_counts: dict[str, list[int] | str]
    """The number of sign codes of each page of a segment, or why it cannot be read, by key."""


async def read_stores(rig: Rig) -> Contents:
    counter = await rig.database["counters"].find_one({"_id": "page_keys"})
    assert counter is not None, "the database has not been prepared"
    records = await rig.database["pages"].find({}, {"text": 0}).to_list(None)
    pages = Counter((int(page["_id"]), page["document_id"], page["page_number"], page["patches"]) for page in records)
    rows, total = await asyncio.to_thread(_rows, rig.settings.milvus, rig.collection, int(counter["next"]))
    objects = await asyncio.to_thread(_objects, rig.settings.s3)
    pictures = await asyncio.to_thread(
        _picture_sizes, rig.settings.s3, [key for key in objects if key.endswith("webp")]
    )
    codes = await asyncio.to_thread(_code_counts, rig.settings.s3, [key for key in objects if key.endswith(".codes")])
    return Contents(rows, total - rows.total(), pages, objects, pictures, codes)


def _rows(settings: MilvusSettings, collection: str, next_page_key: int) -> tuple[Counter[int], int]:
    """The rows of every page key below `next_page_key`, and the number of all rows."""
    name = index_name(collection)
    token = settings.milvus_token.get_secret_value()
    with closing(MilvusClient(uri=settings.milvus_uri, token=token, grpc_options=_FEW_PINGS)) as client:
        if not client.has_collection(name):
            return Counter(), 0
        client.load_collection(name)
        found: Counter[int] = Counter()
        for first in range(0, next_page_key, _PAGES_PER_QUERY):
            low, high = first * ROWS_PER_PAGE, (first + _PAGES_PER_QUERY) * ROWS_PER_PAGE
            answer = _query(client, name, f"pk >= {low} and pk < {high}", "pk")
            found.update(int(row["pk"]) for row in answer)
        total = int(_query(client, name, "", "count(*)")[0]["count(*)"])
    return found, total


def _query(client: MilvusClient, name: str, rows: str, field: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = client.query(name, filter=rows, output_fields=[field], consistency_level="Strong")
    return answer


def _client(settings: S3Settings) -> Minio:
    return Minio(
        settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=settings.s3_secure,
        region=settings.s3_region,
    )


def _objects(settings: S3Settings) -> dict[str, int]:
    listed = _client(settings).list_objects(settings.s3_bucket, recursive=True)
    return {str(entry.object_name): int(entry.size or 0) for entry in listed}


def _picture_sizes(settings: S3Settings, keys: Iterable[str]) -> dict[str, int]:
    """The file length in the RIFF header of each WebP image, by key."""
    client = _client(settings)

    def size(key: str) -> tuple[str, int]:
        response = client.get_object(settings.s3_bucket, key, length=_RIFF_HEADER_BYTES)
        try:
            return key, int.from_bytes(response.read()[4:8], "little") + _RIFF_HEADER_BYTES
        finally:
            response.close()
            response.release_conn()

    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(threads.map(size, keys))


def _code_counts(settings: S3Settings, keys: Iterable[str]) -> dict[str, list[int] | str]:
    client = _client(settings)

    def counts(key: str) -> tuple[str, list[int] | str]:
        response = client.get_object(settings.s3_bucket, key)
        try:
            return key, CodeSegment.decode(response.read()).counts.tolist()
        except ValueError as error:
            return key, str(error)
        finally:
            response.close()
            response.release_conn()

    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(threads.map(counts, keys))
