"""The mode of a search, which its caller chooses."""

from __future__ import annotations

from enum import StrEnum


class SearchMode(StrEnum):
    """What a search looks for."""

    HYBRID = "hybrid"
    """Both: the two rankings are fused by reciprocal rank."""
    SEMANTIC = "semantic"
    """Meaning: late interaction between the vectors of query and page."""
    LEXICAL = "lexical"
    """Words: BM25 over the texts of pages. It needs no embedding service."""
