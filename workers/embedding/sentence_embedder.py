"""Embedders whose published model can also return one vector per text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ingestion.model import Vectors


@runtime_checkable
class SentenceEmbedder(Protocol):
    """An Embedder whose published model pools the tokens of a text."""

    sentence_tokens: int
    """Tokens of a text that the model reads, special tokens included. The rest is cut."""

    async def embed_sentences(self, texts: Sequence[str], *, urgent: bool) -> list[Vectors]:
        """Return one (1, dim) float32 array of unit length per text, in order. Urgent texts go first."""
