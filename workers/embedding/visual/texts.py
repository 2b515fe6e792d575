"""Tokens of queries, where the text of a caller must not act as a special token."""

from __future__ import annotations

from typing import Any, Final

AUGMENTATION_TOKENS: Final = 10
"""Padding tokens after a query, as in training: their vectors extend the query (query augmentation, ColBERT)."""

MAX_QUERY_TOKENS: Final = 512
"""Most tokens of a query's own text. The rest is cut."""


def encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def plain_encoder(tokenizer: Any) -> Any:
    """A copy of the tokenizer that reads special tokens as text. Its settings are fixed: threads may share it."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    plain.encode_special_tokens = True
    return plain
