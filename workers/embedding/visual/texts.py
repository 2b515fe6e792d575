"""Tokens of queries, where the text of a caller must not act as a special token."""

from __future__ import annotations

from typing import Any, Final

from tokenizers import Tokenizer

from ingestion.errors import ModelNotFound

AUGMENTATION_TOKENS: Final = 10
"""Padding tokens after a query, as in training: their vectors extend the query (query augmentation, ColBERT)."""

MAX_QUERY_TOKENS: Final = 512
"""Most tokens of a query's own text. The rest is cut."""

_SAMPLE: Final = "Which page shows 3 tables, the café's?"


class QueryEncoder:
    """Encodes `before + prefix + query + after` like the tokenizer, but special tokens in the query are plain text.

    Threads may share it.
    """

    def __init__(self, tokenizer: Any, *, before: str = "", prefix: str = "", after: str) -> None:
        """`before` and `after` are made of special tokens where they touch the rest. Raises ModelNotFound where the
        tokenizer gives other tokens."""
        self._prefix = prefix
        self._plain = _plain_encoder(tokenizer)
        added_before, added_after = _added_tokens(tokenizer)
        self._head = [*added_before, *_encode(tokenizer, before)]
        self._tail = [*_encode(tokenizer, after), *added_after]
        expected = tokenizer(f"{before}{prefix}{_SAMPLE}{after}")["input_ids"]
        if self.encode(_SAMPLE) != expected:
            raise ModelNotFound(
                "the tokenizer of this checkpoint splits a query otherwise than Pagemill; use another checkpoint, and "
                "report this one"
            )

    def encode(self, query: str) -> list[int]:
        own: list[int] = self._plain.encode(self._prefix + query, add_special_tokens=False).ids
        return [*self._head, *own[:MAX_QUERY_TOKENS], *self._tail]


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _added_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer itself puts before and after a text, such as [CLS] and [SEP]."""
    own = _encode(tokenizer, _SAMPLE)
    whole: list[int] = tokenizer(_SAMPLE)["input_ids"]
    for first in range(len(whole) - len(own) + 1):
        if whole[first : first + len(own)] == own:
            return whole[:first], whole[first + len(own) :]
    return [], []


def _plain_encoder(tokenizer: Any) -> Tokenizer:
    """A copy of the tokenizer that reads special tokens as text, with settings that do not change."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    plain.encode_special_tokens = True
    return plain
