"""Pages of real manuals and questions about them, embedded once, for benchmarks that are not about embedding.

    python -m tests.benchmarks.manuals MANUAL.pdf...

embeds with the local embedder, 0.3 CPU seconds a page, and keeps the result in the folder $PAGEMILL_BENCH_VECTORS
(/tmp/pagemill-vectors if unset), a file for every 64 pages: a run that was cut off goes on where it ended. Questions
are the titles of a manual's outline; the right answer is the page that a title stands on.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pypdfium2

from ingestion.model import Vectors
from tests.benchmarks.retrieval import outline

PAGES_PER_FILE: Final = 64
QUESTIONS_FILE: Final = "questions.npz"
DIM: Final = 384
FINGERPRINT: Final = "benchmark/all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class ManualPage:
    """`vectors` is (tokens, DIM) float32, rows of unit length; pages count from 1."""

    manual: str
    page_number: int
    text: str
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Question:
    """`vectors` is (query_tokens, DIM) float32; the answer stands on page `page_number` of `manual`."""

    text: str
    manual: str
    page_number: int
    vectors: Vectors


def load_pages(paths: Sequence[Path], *, most: int | None = None) -> list[ManualPage]:
    """The pages of all manuals, `most` of them at most, in order. Those without a text layer are left out."""
    pages: list[ManualPage] = []
    for path in paths:
        for numbers in page_ranges(path):
            if most is not None and len(pages) >= most:
                return pages[:most]
            pages += read_pages(path, numbers)
    return pages[:most]


def load_questions(paths: Sequence[Path]) -> list[Question]:
    """One for every title in the outlines that occurs only once in its manual, in order."""
    questions = []
    for path in paths:
        entries = outline(path, every=1)
        if not entries:  # a manual without an outline
            continue
        vectors = cached_vectors(vectors_folder(path) / QUESTIONS_FILE, [title for title, _ in entries])
        questions += [
            Question(title, path.name, page, vector) for (title, page), vector in zip(entries, vectors, strict=True)
        ]
    return questions


def page_ranges(path: Path) -> list[range]:
    """The numbers of the pages in each of the manual's files of vectors."""
    with pypdfium2.PdfDocument(path) as pdf:
        pages = len(pdf)
    return [range(start, min(start + PAGES_PER_FILE, pages + 1)) for start in range(1, pages + 1, PAGES_PER_FILE)]


def numbers_with_text(path: Path, numbers: range) -> list[int]:
    """Those pages of a range that have vectors, without reading these.

    Raises FileNotFoundError where the range has not been embedded yet.
    """
    with np.load(vectors_folder(path) / _file_name(numbers)) as stored:
        return [number for number, count in zip(numbers, stored["counts"], strict=True) if count]


def read_pages(path: Path, numbers: range) -> Iterator[ManualPage]:
    """The pages of a range, without those that have no text layer."""
    texts = _texts(path, numbers)
    vectors = cached_vectors(vectors_folder(path) / _file_name(numbers), texts)
    for number, text, page_vectors in zip(numbers, texts, vectors, strict=True):
        if len(page_vectors):
            yield ManualPage(path.name, number, text, page_vectors)


def vectors_folder(path: Path) -> Path:
    """The folder of this file's vectors. Another file of the same name has another folder."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return Path(os.environ.get("PAGEMILL_BENCH_VECTORS", "/tmp/pagemill-vectors")) / f"{path.stem}-{digest}"


def _file_name(numbers: range) -> str:
    return f"pages-{numbers.start:05d}.npz"


def _texts(path: Path, numbers: range) -> list[str]:
    with pypdfium2.PdfDocument(path) as pdf:
        return [pdf[number - 1].get_textpage().get_text_bounded() for number in numbers]


def cached_vectors(file: Path, texts: list[str]) -> list[Vectors]:
    """The vectors of `texts`, from `file`, or computed and written to it, whole or not at all."""
    if not file.exists():
        vectors = asyncio.run(_embed(texts))
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.stem}.{os.getpid()}.npz")
        np.savez(partial, rows=np.concatenate(vectors), counts=np.array([len(v) for v in vectors]))
        partial.rename(file)
    with np.load(file) as stored:
        rows, counts = stored["rows"], stored["counts"]
    return np.split(rows, np.cumsum(counts)[:-1])


async def _embed(texts: list[str]) -> list[Vectors]:
    """The model is loaded only here. Cached vectors need no model."""
    from workers.embedding.local.embedder import open_local

    async with open_local(threads=1) as embedder:
        return await embedder.embed_documents(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manuals", type=Path, nargs="+")
    arguments = parser.parse_args()
    for path in arguments.manuals:
        questions = load_questions([path])
        pages = tokens = 0
        for numbers in page_ranges(path):
            for page in read_pages(path, numbers):
                pages, tokens = pages + 1, tokens + len(page.vectors)
        print(json.dumps({"manual": path.name, "pages": pages, "tokens": tokens, "questions": len(questions)}))


if __name__ == "__main__":
    main()
