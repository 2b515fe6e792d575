"""A manual with an outline, and vectors for it that no model has computed, in the files that the benchmarks read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from fpdf import FPDF

from ingestion.model import Vectors
from tests.benchmarks.manuals import DIM, PAGES_PER_FILE, QUESTIONS_FILE, vectors_folder

_VECTORS_OF_PAGE = 8
_VECTORS_OF_TITLE = 3


def make_manual(path: Path, pages: int, *, without_text: Collection[int] = ()) -> None:
    """Write a PDF at `path`, and its vectors into $PAGEMILL_BENCH_VECTORS.

    A title stands on each page with text. The vectors of a title are some of its page's: so this page is the best.
    """
    pdf = FPDF()
    pdf.set_font("helvetica")
    for number in range(1, pages + 1):
        pdf.add_page()
        if number not in without_text:
            pdf.start_section(f"Chapter {number} of {path.stem}")
            pdf.cell(text=f"This is page {number}.")
    pdf.output(str(path))
    chance = np.random.default_rng(pages)
    vectors = [
        _random_vectors(chance, 0 if number in without_text else _VECTORS_OF_PAGE) for number in range(1, pages + 1)
    ]
    vectors_folder(path).mkdir(parents=True)
    for start in range(0, pages, PAGES_PER_FILE):
        _save(vectors_folder(path) / f"pages-{start + 1:05d}.npz", vectors[start : start + PAGES_PER_FILE])
    _save(vectors_folder(path) / QUESTIONS_FILE, [page[:_VECTORS_OF_TITLE] for page in vectors if len(page)])


def _random_vectors(chance: np.random.Generator, count: int) -> Vectors:
    values = chance.standard_normal((count, DIM)).astype(np.float32)
    unit: Vectors = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def _save(path: Path, vectors: list[Vectors]) -> None:
    np.savez(path, rows=np.concatenate(vectors), counts=np.array([len(one) for one in vectors]))
