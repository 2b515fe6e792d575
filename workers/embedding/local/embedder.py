"""The embedder for machines without a GPU: MiniLM over a page's text layer, one vector per token.

It stands in for a visual embedder: it reads the text layer of a PDF and not the image of the page. A page without a
text layer gets no vectors. The model is all-MiniLM-L6-v2 (384 dimensions), installed from a wheel.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import numpy as np

from ingestion.model import ROWS_PER_PAGE, Page, Vectors
from ingestion.vectors.pooling import merge_to
from workers.embedding.batching.batcher import Batcher
from workers.embedding.batching.grouping import choose_oldest
from workers.embedding.local.graph import Precision
from workers.embedding.local.model import Chunk, LocalModel, PreparedChunk

_BATCH_TOKENS: Final = 384
"""Three chunks of a page, about 0.1 s of one core: the longest that a new query waits for a running batch."""

_WAIT_MS: Final = 2.0
_MAX_PAGE_TOKENS: Final = 16 * ROWS_PER_PAGE
"""More than the tokens of PAGEMILL_MAX_TEXT_CHARS, by default."""
_MAX_QUERY_TOKENS: Final = 510
"""Most tokens of a query's own text. The rest is cut. MiniLM has 512 positions, two of them for [CLS] and [SEP]."""


class LocalEmbedder:
    """Embedder over text. Chunks of all callers share batches; queries go first."""

    wants_pixels = False

    def __init__(self, model: LocalModel, batcher: Batcher[Chunk, PreparedChunk, Vectors]) -> None:
        self._model = model
        self._batcher = batcher
        self.dim = model.dim
        self.fingerprint = model.fingerprint
        self.sentence_tokens = model.sentence_tokens
        self.activity = batcher.activity

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """Return one (tokens, dim) float32 array per page, rows of unit length; 0 rows without a text layer."""
        return await self.embed_documents([page.text for page in pages])

    async def embed_documents(self, texts: Sequence[str]) -> list[Vectors]:
        """Return one (tokens, dim) float32 array per text; 0 rows without tokens.

        The vectors of a text with more than ROWS_PER_PAGE tokens are merged to that number, similar ones first.
        """
        found = await self._embed(texts, _MAX_PAGE_TOKENS, urgent=False)
        if all(len(vectors) <= ROWS_PER_PAGE for vectors in found):
            return found
        return [await asyncio.to_thread(merge_to, ROWS_PER_PAGE, vectors) for vectors in found]

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        """Return one (tokens, dim) float32 array per query, cut to 510 tokens."""
        return await self._embed(queries, _MAX_QUERY_TOKENS, urgent=True)

    async def embed_sentences(self, texts: Sequence[str], *, urgent: bool) -> list[Vectors]:
        """Return one (1, dim) float32 array per text, equal to that of sentence-transformers with the same weights.

        A text is cut to `sentence_tokens`. A text without tokens gets the vector of [CLS] and [SEP]. Urgent texts go
        first, like queries.
        """
        chunks = await asyncio.to_thread(self._model.sentence_chunks, texts)
        return await self._batcher.embed(chunks, urgent=urgent)

    async def _embed(self, texts: Sequence[str], max_tokens: int, *, urgent: bool) -> list[Vectors]:
        chunks = await asyncio.to_thread(self._chunks, texts, max_tokens)
        vectors = iter(await self._batcher.embed([chunk for of_text in chunks for chunk in of_text], urgent=urgent))
        return [self._joined([next(vectors) for _ in of_text]) for of_text in chunks]

    def _chunks(self, texts: Sequence[str], max_tokens: int) -> list[list[Chunk]]:
        with self.activity.track():
            return self._model.chunks(texts, max_tokens)

    def _joined(self, parts: Sequence[Vectors]) -> Vectors:
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


@asynccontextmanager
async def open_local(*, threads: int = 0, precision: Precision = "fp32") -> AsyncIterator[LocalEmbedder]:
    """Load the model, which takes about a second, and close it at the end of the block.

    `threads`: forward threads, each on one core; 0 means one for each core that this process may use.
    """
    model = await asyncio.to_thread(LocalModel, precision)
    batcher = Batcher(
        model,
        batch_cost=_BATCH_TOKENS,
        wait_ms=_WAIT_MS,
        forward_threads=threads or len(os.sched_getaffinity(0)),
        choose=choose_oldest,
    )
    try:
        yield LocalEmbedder(model, batcher)
    finally:
        await batcher.close()
