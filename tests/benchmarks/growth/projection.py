"""Vectors of a smaller dimension, as a stand-in for a model that makes such vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ingestion.model import Vectors
from tests.benchmarks.manuals import DIM, ManualPage


@dataclass(frozen=True, slots=True)
class Projection:
    """The first principal components of pages' vectors."""

    components: NDArray[np.float32]
    """(DIM, dim), orthonormal columns."""

    @classmethod
    def fit(cls, batches: Iterable[Sequence[ManualPage]], dim: int) -> Self:
        """PCA of the vectors of all pages, which are read once. Raises SystemExit for an unfit `dim`."""
        if not 1 <= dim <= DIM:
            raise SystemExit(f"--dim is {dim}, it must be 1 to {DIM}")
        count, total, products = 0, np.zeros(DIM), np.zeros((DIM, DIM))
        for batch in batches:
            for page in batch:
                count += len(page.vectors)
                total += page.vectors.sum(axis=0, dtype=np.float64)
                products += page.vectors.T @ page.vectors
        mean = total / count
        _, axes = np.linalg.eigh(products / count - np.outer(mean, mean))  # columns, by ascending variance
        return cls(np.ascontiguousarray(axes[:, ::-1][:, :dim], np.float32))

    def apply(self, vectors: Vectors) -> Vectors:
        """(tokens, DIM) -> (tokens, dim), rows of unit length. The mean stays in: inner products depend on it."""
        projected = vectors @ self.components
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        result: Vectors = projected / np.maximum(lengths, np.finfo(np.float32).tiny)
        return result
