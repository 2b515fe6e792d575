"""Does search find the right page? Outline titles of manuals as queries, through the HTTP API, beside exact MaxSim.

    python -m tests.benchmarks.retrieval --data-dir D MANUAL.pdf...

needs a running `pagemill up --data-dir D`. Each manual's outline (bookmarks) says on which page a title stands; the
query is the title, the right answer that page. Exact MaxSim scores every page of the collection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

import httpx
import numpy as np
import pypdfium2

from ingestion.adapters.embedding.http import RemoteEmbedder
from ingestion.adapters.minio import MinioBlobStore
from ingestion.catalogue.generations import FIRST
from ingestion.maxsim import maxsim
from ingestion.model import Vectors
from ingestion.settings import Settings
from ingestion.vectors.blob import decode_blob
from ingestion.vectors.blob_reader import VectorBlobRef, VectorBlobs

TOP = 5
MIN_TITLE_CHARS = 4


def outline(path: Path, every: int) -> list[tuple[str, int]]:
    """(title, page number from 1) of every `every`-th entry; titles that occur twice have no right page."""
    entries = []
    with pypdfium2.PdfDocument(path) as pdf:
        for bookmark in pdf.get_toc():
            target = bookmark.get_dest()
            index = target.get_index() if target else None
            if index is not None and len(bookmark.get_title()) >= MIN_TITLE_CHARS:
                entries.append((bookmark.get_title(), index + 1))
    titles = [title for title, _ in entries]
    return [entry for entry in entries if titles.count(entry[0]) == 1][::every]


async def ingest(api: httpx.AsyncClient, collection: str, path: Path) -> str:
    with path.open("rb") as file:
        answer = await api.post(f"/collections/{collection}/documents", files={"files": (path.name, file)})
    answer.raise_for_status()
    document_id = str(answer.json()["documents"][0]["document_id"])
    while True:
        document = (await api.get(f"/documents/{document_id}")).raise_for_status().json()
        if document["state"] == "ready":
            return document_id
        if document["state"] == "failed":
            raise SystemExit(f"{path}: {document['error']}")
        await asyncio.sleep(0.5)


async def all_vectors(document_id: str, pages: int) -> list[Vectors]:
    async with MinioBlobStore(Settings().s3) as blobs:
        refs = [VectorBlobRef(document_id, number, FIRST) for number in range(1, pages + 1)]
        return [decode_blob(blob) for blob in await VectorBlobs(blobs).read(refs)]


async def measure(stack: dict[str, object], paths: list[Path], every: int) -> None:
    headers = {"Authorization": f"Bearer {stack['api_key']}"}
    collection = f"retrieval-{int(time.time())}"
    async with (
        httpx.AsyncClient(base_url=f"{stack['api_url']}/api/v1", headers=headers, timeout=120) as api,
        RemoteEmbedder(Settings().embedder) as embedder,
    ):
        vectors: list[Vectors] = []
        places: list[tuple[str, int]] = []
        queries: list[tuple[str, str, int]] = []
        started = time.monotonic()
        for path in paths:
            document_id = await ingest(api, collection, path)
            pages = (await api.get(f"/documents/{document_id}")).json()["pages"]
            vectors += await all_vectors(document_id, pages)
            places += [(document_id, number) for number in range(1, pages + 1)]
            queries += [(title, document_id, page) for title, page in outline(path, every)]
        print(f"{len(places)} pages ingested in {time.monotonic() - started:.0f} s, {len(queries)} queries")
        found = exact = agree = 0
        seconds = []
        for title, document_id, page in queries:
            began = time.monotonic()
            body = {"query": title, "top_k": TOP, "mode": "semantic"}
            answer = await api.post(f"/collections/{collection}/search", json=body)
            seconds.append(time.monotonic() - began)
            hits = [(hit["document_id"], hit["page"]) for hit in answer.raise_for_status().json()["hits"]]
            scores = maxsim((await embedder.embed_queries([title]))[0], vectors)
            best = [places[i] for i in np.argsort(-scores, kind="stable")[:TOP]]
            found += (document_id, page) in hits
            exact += (document_id, page) in best
            agree += len(set(hits) & set(best))
        total = len(queries)
        print(f"recall@{TOP}: {found / total:.3f} through the API, {exact / total:.3f} with exact MaxSim")
        print(f"of exact MaxSim's first {TOP}, the API returned {agree / total / TOP:.3f}")
        print(
            f"search: p50 {np.percentile(seconds, 50) * 1000:.0f} ms, p95 {np.percentile(seconds, 95) * 1000:.0f} ms"
        )
        (await api.delete(f"/collections/{collection}")).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path(".pagemill"))
    parser.add_argument("--every", type=int, default=1, help="use every n-th outline entry")
    parser.add_argument("manuals", type=Path, nargs="+")
    arguments = parser.parse_args()
    stack = json.loads((arguments.data_dir / "stack.json").read_text())
    os.environ["PAGEMILL_S3_ENDPOINT"] = stack["s3"]["endpoint"].removeprefix("http://")
    os.environ["PAGEMILL_S3_ACCESS_KEY"] = stack["s3"]["access_key"]
    os.environ["PAGEMILL_S3_SECRET_KEY"] = stack["s3"]["secret_key"]
    os.environ["PAGEMILL_EMBEDDER_URL"] = stack["embedder_url"]
    asyncio.run(measure(stack, arguments.manuals, arguments.every))


if __name__ == "__main__":
    main()
