"""Embedders that load no model, for tests of other parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from ingestion.errors import EmbedderMismatch
from ingestion.model import ROWS_PER_PAGE, Page, Vectors
from ingestion.ports import Embedder


class WordEmbedder:
    """One pseudo-random unit vector per word. Equal words have equal vectors, so they match.

    Each `model` has vectors of its own.
    """

    wants_pixels = False

    def __init__(self, dim: int = 32, model: str = "words") -> None:
        self.dim = dim
        self.fingerprint = f"test/{model}/{dim}"
        self._salt = "" if model == "words" else model

    async def for_fingerprint(self, fingerprint: str) -> Embedder:
        """An EmbedderChoice with one embedder for all collections."""
        if fingerprint != self.fingerprint:
            raise EmbedderMismatch(f"queries are embedded with {self.fingerprint}, not with {fingerprint}")
        return self

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return [self._embed(page.text) for page in pages]

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        return [self._embed(query) for query in queries]

    def _embed(self, text: str) -> Vectors:
        words = re.findall(r"\w+", text.lower())[:ROWS_PER_PAGE]
        return np.array([self._word(word) for word in words], np.float32).reshape(len(words), self.dim)

    def _word(self, word: str) -> Vectors:
        seed = int.from_bytes(hashlib.sha256((self._salt + word).encode()).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(self.dim)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
