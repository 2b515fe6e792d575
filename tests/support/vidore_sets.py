"""Small sets in the formats of ViDoRe 1, 2 and 3, and an embedder that knows a page by its exact pixels."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from ingestion.model import Page, Vectors
from ingestion.settings import EmbedderSettings, RenderSettings

DIM: Final = 32
_TOKENS: Final = 5
_DIGEST: Final = re.compile(r"[0-9a-f]{16}")


def picture(seed: int, image_format: str = "PNG") -> bytes:
    """An image file of noise, of a size of its own."""
    drawn = np.random.default_rng(seed).integers(0, 256, (60 + seed, 41 + 2 * seed, 3), dtype=np.uint8)
    output = io.BytesIO()
    Image.fromarray(drawn).save(output, image_format)
    return output.getvalue()


def name_of(image: bytes) -> str:
    """The words of a query for exactly these pixels."""
    return _digest(np.asarray(Image.open(io.BytesIO(image)).convert("RGB")))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(list(rows)), path)


def make_v3(folder: Path, images: Sequence[bytes], queries: Sequence[tuple[str, str, Mapping[int, int]]]) -> Path:
    """`queries`: text, language, and the grades of pages by index. Images lie in two files. Returns `folder`."""
    rows = [
        {
            "corpus_id": number,
            "image": {"bytes": image, "path": f"{number}.png"},
            "doc_id": "a",
            "markdown": "",
            "page_number_in_doc": number,
        }
        for number, image in enumerate(images)
    ]
    half = len(rows) // 2
    for number, part in enumerate([rows[:half], rows[half:]]):
        write_table(folder / "corpus" / f"test-{number:05d}-of-00002.parquet", part)
    asked = [
        {"query_id": number, "query": text, "language": language, "query_types": ["open-ended"]}
        for number, (text, language, _) in enumerate(queries)
    ]
    write_table(folder / "queries" / "test-00000-of-00001.parquet", asked)
    judged = [
        {
            "query_id": number,
            "corpus_id": page,
            "score": grade,
            "content_type": ["Text"],
            "bounding_boxes": [{"x1": 1}],
        }
        for number, (_, _, grades) in enumerate(queries)
        for page, grade in grades.items()
    ]
    write_table(folder / "qrels" / "test-00000-of-00001.parquet", judged)
    return folder


class PixelEmbedder:
    """Embedder. The vectors of a page depend on its exact pixels; a query asks for pages by `name_of` their images."""

    dim = DIM
    fingerprint = "pixels"
    wants_pixels = True

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return [_vectors(_digest(np.asarray(page.pixels))) for page in pages]

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        """The first page named counts for more than the next one, and so on."""
        found = []
        for query in queries:
            names = _DIGEST.findall(query)
            found.append(np.concatenate([_vectors(name)[: _TOKENS - rank] for rank, name in enumerate(names)]))
        return found


@asynccontextmanager
async def open_pixel_embedder(settings: EmbedderSettings, render: RenderSettings) -> AsyncIterator[PixelEmbedder]:
    """Replaces `workers.embedding.factory.open_embedder`."""
    yield PixelEmbedder()


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]


def _vectors(name: str) -> Vectors:
    drawn = np.random.default_rng(int(name, 16)).standard_normal((_TOKENS, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
