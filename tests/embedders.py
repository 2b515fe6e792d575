"""Embedders for tests that are not about embedding: they cost nothing and load no model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from ingestion.model import ROWS_PER_PAGE, Page, Vectors


class WordEmbedder:
    """One pseudo-random unit vector per word, the same word always the same vector, so that equal words match."""

    wants_pixels = False

    def __init__(self, dim: int = 32) -> None:
        self.dim = dim
        self.fingerprint = f"test/words/{dim}"

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return [self._embed(page.text) for page in pages]

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        return [self._embed(query) for query in queries]

    def _embed(self, text: str) -> Vectors:
        words = re.findall(r"\w+", text.lower())[:ROWS_PER_PAGE]
        return np.array([self._word(word) for word in words], np.float32).reshape(len(words), self.dim)

    def _word(self, word: str) -> Vectors:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(self.dim)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
