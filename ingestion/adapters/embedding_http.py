"""Embeddings from the embedding service, over HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Final, Self

import numpy as np

from ingestion.adapters.embedding_isolation import NotTheInput, PageInput, embed_isolating
from ingestion.adapters.embedding_requests import DEPENDENCY, EmbeddingRequests
from ingestion.adapters.embedding_wire import (
    FINGERPRINT_HEADER,
    InputType,
    Modality,
    ServedModel,
    batches,
    data_uri,
    probe_uri,
    read_model,
    read_vectors,
    request_body,
)
from ingestion.concurrency import side_by_side
from ingestion.errors import WorkerFault
from ingestion.model import Page, Vectors
from ingestion.settings import EmbedderSettings

_PAGES_PER_REQUEST: Final = 8
"""A page's vectors take up to 4 MB of an answer, and the service makes batches across requests anyway."""

_MODELS_TRIED: Final = 3
_THREAD_FROM_BYTES: Final = 256 * 1024
"""Larger answers are read in a thread, so that the event loop goes on."""


class _ModelChanged(NotTheInput):
    def __init__(self, was: str, served: str) -> None:
        super().__init__(
            DEPENDENCY, f"it embeds with {served!r} now, and did with {was!r}: restart what has begun with that model"
        )


@dataclass(slots=True)
class RequestSteps:
    """Steps of an embedder whose device is in another process."""

    done: int = 0
    """Requests for pages that were answered or given up."""
    oldest: object = None


class RemoteEmbedder:
    """Embedder over an embedding service. Safe to use from many tasks at once.

    Vectors are only ever returned as those of the model that `fingerprint` names at that moment. Once `connect` has
    been called, which embedding pages does, that is one model for good: whoever stores vectors has looked at its
    fingerprint before. Should the service change its model, DependencyUnavailable is raised until it changes back or
    this process is restarted. Without it, queries follow the service to its new model, and `fingerprint` with them.

    Raises DependencyUnavailable where the service cannot be reached, or is overloaded for too long, BadRequest for
    an input that it refuses, and WorkerFault. A failure on pages is an outage only where the service does not embed
    a probe either; otherwise PageNotEmbedded names the page.
    """

    def __init__(self, settings: EmbedderSettings) -> None:
        self._requests = EmbeddingRequests(settings)
        self._max_request_bytes = settings.embedder_request_bytes
        self._model: ServedModel | None = None
        self._is_bound = False
        self.steps = RequestSteps()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._requests.close()

    @property
    def fingerprint(self) -> str:
        """Known after `connect` or the first embedding; empty before."""
        return self._model.fingerprint if self._model else ""

    @property
    def dim(self) -> int:
        return self._model.dim if self._model else 0

    @property
    def wants_pixels(self) -> bool:
        return self._model is not None and self._model.wants_pixels

    async def connect(self) -> None:
        """Ask the service for its model, and keep to that from now on."""
        await self._bound()

    async def refresh(self) -> None:
        """Ask the service for the model that it serves now, without keeping to it."""
        self._adopt(await self._ask())

    async def ping(self) -> None:
        """Embed something small that no cache has. A service that answers /ready while its model hangs fails this.

        It is sent as pages are, so that it waits where they wait: behind a long queue neither comes through.
        """
        model = self._model or read_model((await self._requests.get_once("/v1/models")).content)
        nonce = secrets.token_hex(4)
        modality: Modality = "image" if model.wants_pixels else "text"
        content = probe_uri(nonce) if model.wants_pixels else f"ready {nonce}"
        response = await self._requests.post_once("/v1/embeddings", request_body([content], modality, "document"))
        read_vectors(response.content, 1, model.dim)

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """A text model is not asked about pages without text: they have no vectors."""
        model = await self._bound()
        numbers = [page.page_number for page in pages]
        if model.wants_pixels:
            uris = await side_by_side(*(asyncio.to_thread(data_uri, page) for page in pages))
            return await self._embed_pages(model, [*map(PageInput, numbers, uris)], "image")
        texts = [PageInput(page.page_number, page.text) for page in pages if page.text.strip()]
        found = iter(await self._embed_pages(model, texts, "text"))
        nothing = np.empty((0, model.dim), np.float32)
        return [next(found) if page.text.strip() else nothing for page in pages]

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        for tries_left in reversed(range(_MODELS_TRIED)):
            model = self._model or await self._ask()
            try:
                vectors = await self._embed_queries(model, queries)
                self._adopt(model)  # with no other task in between, so that the caller finds it like that
            except _ModelChanged:
                if self._is_bound or not tries_left:
                    raise
                self._model = None
            else:
                return vectors
        raise AssertionError("the last try neither returned nor raised")

    async def _bound(self) -> ServedModel:
        if self._model is not None and self._is_bound:
            return self._model
        model = self._adopt(await self._ask())
        self._is_bound = True
        return model

    def _adopt(self, model: ServedModel) -> ServedModel:
        """Let `fingerprint` name `model`. Raises _ModelChanged where this embedder keeps to another."""
        if self._is_bound and self._model is not None and self._model.fingerprint != model.fingerprint:
            raise _ModelChanged(self._model.fingerprint, model.fingerprint)
        self._model = model
        return model

    async def _ask(self) -> ServedModel:
        return read_model((await self._requests.get("/v1/models")).content)

    async def _embed_queries(self, model: ServedModel, queries: Sequence[str]) -> list[Vectors]:
        parts = batches(queries, max_inputs=model.max_inputs, max_chars=self._max_request_bytes)
        answers = await side_by_side(*(self._embed_batch(model, part, "text", "query") for part in parts))
        return [vectors for answer in answers for vectors in answer]

    async def _embed_pages(self, model: ServedModel, inputs: Sequence[PageInput], modality: Modality) -> list[Vectors]:
        async def embed(part: Sequence[PageInput]) -> list[Vectors]:
            try:
                return await self._embed_batch(model, [one.content for one in part], modality, "document")
            finally:
                self.steps.done += 1

        most = min(_PAGES_PER_REQUEST, model.max_inputs)
        contents = [one.content for one in inputs]
        sizes = [len(part) for part in batches(contents, max_inputs=most, max_chars=self._max_request_bytes)]
        rest = iter(inputs)
        parts = [list(islice(rest, size)) for size in sizes]
        answers = await side_by_side(*(embed_isolating(embed, part, self.ping) for part in parts))
        return [vectors for answer in answers for vectors in answer]

    async def _embed_batch(
        self, model: ServedModel, inputs: Sequence[str], modality: Modality, input_type: InputType
    ) -> list[Vectors]:
        response = await self._requests.post("/v1/embeddings", request_body(inputs, modality, input_type))
        served = response.headers.get(FINGERPRINT_HEADER)
        if served is None:
            raise WorkerFault(f"{DEPENDENCY} does not say which model its vectors are of")
        if served != model.fingerprint:
            raise _ModelChanged(model.fingerprint, served)
        if len(response.content) < _THREAD_FROM_BYTES:
            return read_vectors(response.content, len(inputs), model.dim)
        return await asyncio.to_thread(read_vectors, response.content, len(inputs), model.dim)
