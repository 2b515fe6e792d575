"""Ingest a PDF one step after another, as a baseline for the worker.

    python -m tests.benchmarks.series FILE.pdf NAME SERVICE

is a child process of tests.benchmarks.ingest; its settings come from the environment. pdf2image renders the whole file
to PNG at 200 DPI. One request sends all images to an embedding service, which answers with vectors in JSON. Then rows
go to Milvus as dictionaries, page by page, and the images are uploaded one by one.
"""

from __future__ import annotations

import http.server
import io
import json
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import pdf2image
from minio import Minio
from pymilvus import DataType, MilvusClient

from ingestion.settings import Settings
from tests.benchmarks.standin import DIM, TOKENS

DPI: Final = 200
_TIMEOUT_S: Final = 600.0


class _Answer(http.server.BaseHTTPRequestHandler):
    """Reads images and answers with prepared JSON vectors."""

    page_json: bytes

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = b"[" + b",".join([self.page_json] * body.count(b"\x89PNG\r\n")) + b"]"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """No log output."""


@contextmanager
def embedding_service() -> Iterator[str]:
    """The address of a service that answers at once, in a thread of this process."""
    vectors = np.random.default_rng(1).standard_normal((TOKENS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    handler = type("Answer", (_Answer,), {"page_json": json.dumps(vectors.tolist()).encode()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/embed"
        finally:
            server.shutdown()


def ingest(path: Path, name: str, service_url: str, settings: Settings) -> int:
    """Ingest into the Milvus collection `name` and the same prefix of the bucket. Returns the page count."""
    images = []
    for picture in pdf2image.convert_from_path(path, dpi=DPI):
        file = io.BytesIO()
        picture.save(file, "PNG")
        images.append(file.getvalue())
    parts = [("images", (f"{number}.png", image, "image/png")) for number, image in enumerate(images)]
    vectors = httpx.post(service_url, files=parts, timeout=_TIMEOUT_S).raise_for_status().json()
    with closing(MilvusClient(uri=settings.milvus.milvus_uri)) as milvus:
        for number, page in enumerate(vectors):
            rows = [{"pk": number * TOKENS + row, "page_key": number, "vector": v} for row, v in enumerate(page)]
            milvus.insert(name, rows)
    s3 = settings.s3
    store = Minio(
        s3.s3_endpoint, s3.s3_access_key, s3.s3_secret_key.get_secret_value(), secure=False, region=s3.s3_region
    )
    for number, image in enumerate(images):
        store.put_object(s3.s3_bucket, f"{name}/{number}.png", io.BytesIO(image), len(image), "image/png")
    return len(images)


def create_index(name: str, settings: Settings) -> None:
    """A collection with the worker's schema and index."""
    with closing(MilvusClient(uri=settings.milvus.milvus_uri)) as client:
        _create(client, name, settings)


def drop_index(name: str, settings: Settings) -> None:
    with closing(MilvusClient(uri=settings.milvus.milvus_uri)) as client:
        client.drop_collection(name)


def _create(client: MilvusClient, name: str, settings: Settings) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("page_key", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    graph = {"M": settings.milvus.hnsw_m, "efConstruction": settings.milvus.hnsw_ef_construction}
    index = client.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="IP", params={**graph, "params": graph})
    client.create_collection(name, schema=schema, index_params=index)


def main() -> None:
    path, name, service_url = sys.argv[1:]
    began, began_cpu_s = time.monotonic(), _cpu_s()
    pages = ingest(Path(path), name, service_url, Settings())
    figures = {
        "pages": pages,
        "seconds": time.monotonic() - began,
        "cpu_s": _cpu_s() - began_cpu_s,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


if __name__ == "__main__":
    main()
