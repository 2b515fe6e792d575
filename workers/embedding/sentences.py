"""Embedders whose published model also has one vector for a whole text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ingestion.model import Vectors


@runtime_checkable
class SentenceEmbedder(Protocol):
    """What an Embedder implements besides, where its published model pools the tokens of a text."""

    sentence_tokens: int
    """Tokens of a text that are looked at, special ones included."""

    async def embed_sentences(self, texts: Sequence[str], *, urgent: bool) -> list[Vectors]:
        """One (1, dim) float32 array of unit length per text, in order. `urgent` goes before what is not."""
