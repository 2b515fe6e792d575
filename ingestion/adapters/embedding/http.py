"""Embeddings from the embedding service, over HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np
import structlog

from ingestion.adapters.embedding.requests import DEPENDENCY, EmbeddingRequests, ServerFailed, Unanswered
from ingestion.adapters.embedding.wire import (
    FINGERPRINT_HEADER,
    InputType,
    Modality,
    ServedModel,
    batches,
    data_uri,
    read_model,
    read_vectors,
    request_body,
    small_input,
)
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import DependencyUnavailable, EmbeddingFailed, IngestError, WorkerFault
from ingestion.model import Page, Vectors
from ingestion.settings import EmbedderSettings

log = structlog.get_logger(__name__)

_PAGES_PER_REQUEST: Final = 8
"""A page's vectors take up to 4 MB of an answer. The service makes batches across requests."""

_MODELS_TRIED: Final = 3
_THREAD_FROM_BYTES: Final = 256 * 1024
"""Larger answers are read in a thread, so that the event loop goes on."""


class _ModelChanged(DependencyUnavailable):
    def __init__(self, was: str, served: str) -> None:
        super().__init__(
            DEPENDENCY, f"it embeds with {served!r} now, and did with {was!r}: restart what has begun with that model"
        )


class _InputFailed(Exception):
    def __init__(self, failed: str, cause: IngestError) -> None:
        self.input, self.cause = failed, cause


@dataclass(slots=True)
class _Answers:
    """Implements `ports.Activity` for an embedder in another process: counts the requests that ended."""

    completed: int = 0
    oldest: object = None


class RemoteEmbedder:
    """Embedder over an embedding service. Safe to use from many tasks at once.

    Returned vectors are always of the model that `fingerprint` names at that moment. After `connect`, which embedding
    pages calls, this embedder keeps to one model: its caller has bound a collection to that fingerprint. Where the
    service changes its model later, this raises DependencyUnavailable until the service changes back or the process
    restarts. Without `connect`, queries use the new model, and `fingerprint` changes.

    Raises DependencyUnavailable where the service cannot be reached, or has no room for pages for too long, Overloaded
    at once where it has no room for queries, BadRequest for an input that it refuses, and WorkerFault.
    """

    def __init__(self, settings: EmbedderSettings) -> None:
        self._requests = EmbeddingRequests(settings)
        self._max_request_bytes = settings.embedder_request_bytes
        self._model: ServedModel | None = None
        self._is_bound = False
        self._proving = asyncio.Lock()
        self._sound_at = -math.inf
        self.activity = _Answers()

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
        await self._requests.get_once("/ready")

    async def prove(self) -> None:
        """Embed a small input that no cache holds: a service whose model hangs may still answer a ping.

        Raises DependencyUnavailable, WorkerFault.
        """
        model = await self._bound()
        body = request_body([small_input(model)], "image" if model.wants_pixels else "text", "document")
        response = await self._requests.post_once("/v1/embeddings", body)
        read_vectors(response.content, 1, model.dim)

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """With a text model, pages without text have no vectors, and no request is made for them.

        Where the service fails at pages or does not answer, and embeds other input meanwhile, they are sent one by
        one. Raises EmbeddingFailed for a page at which it fails again.
        """
        model = await self._bound()
        if model.wants_pixels:
            uris = await gather_or_cancel(*(asyncio.to_thread(data_uri, page) for page in pages))
            return await self._embed_named(model, uris, pages, "image")
        worded = [page for page in pages if page.text.strip()]
        found = iter(await self._embed_named(model, [page.text for page in worded], worded, "text"))
        nothing = np.empty((0, model.dim), np.float32)
        return [next(found) if page.text.strip() else nothing for page in pages]

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        for tries_left in reversed(range(_MODELS_TRIED)):
            model = self._model or await self._ask()
            try:
                vectors = await self._embed(model, queries, "text", "query")
                self._adopt(model)  # no other task runs before the caller reads `fingerprint`
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

    async def _embed_named(
        self, model: ServedModel, inputs: Sequence[str], pages: Sequence[Page], modality: Modality
    ) -> list[Vectors]:
        """`inputs` are those of `pages`, in the same order."""
        try:
            return await self._embed(model, inputs, modality, "document")
        except _InputFailed as failed:
            number = pages[inputs.index(failed.input)].page_number
            raise EmbeddingFailed(
                f"page {number} cannot be embedded, and other input can: {failed.cause.message}", stage="embed"
            ) from failed.cause

    async def _embed(
        self, model: ServedModel, inputs: Sequence[str], modality: Modality, input_type: InputType
    ) -> list[Vectors]:
        is_query = input_type == "query"
        most = model.max_inputs if is_query else min(_PAGES_PER_REQUEST, model.max_inputs)
        embed = self._embed_batch if is_query else self._embed_or_isolate
        parts = batches(inputs, max_inputs=most, max_chars=self._max_request_bytes)
        answers = await gather_or_cancel(*(embed(model, part, modality, input_type) for part in parts))
        return [vectors for answer in answers for vectors in answer]

    async def _embed_or_isolate(
        self, model: ServedModel, inputs: Sequence[str], modality: Modality, input_type: InputType
    ) -> list[Vectors]:
        """As `_embed_batch`, and where that fails while the service works, one by one. Raises _InputFailed."""
        try:
            return await self._embed_batch(model, inputs, modality, input_type)
        except (Unanswered, ServerFailed) as error:
            await self._require_sound(error)
            if len(inputs) == 1:
                raise _InputFailed(inputs[0], error) from error
            log.warning("embedded one by one", inputs=len(inputs), cause=error.message)
        finally:
            self.activity.completed += 1
        # One after another: so a failure of the service has one input as its cause.
        alone = [await self._embed_or_isolate(model, [one], modality, input_type) for one in inputs]
        return [vectors for (vectors,) in alone]

    async def _require_sound(self, error: IngestError) -> None:
        """Raise `error` unless the service embeds other input after it. Requests that fail together share a proof."""
        failed_at = time.monotonic()
        async with self._proving:
            if self._sound_at > failed_at:
                return
            began_at = time.monotonic()
            try:
                await self.prove()
            except IngestError as outage:
                raise error from outage
            self._sound_at = began_at

    async def _embed_batch(
        self, model: ServedModel, inputs: Sequence[str], modality: Modality, input_type: InputType
    ) -> list[Vectors]:
        response = await self._requests.post(
            "/v1/embeddings", request_body(inputs, modality, input_type), is_patient=input_type == "document"
        )
        served = response.headers.get(FINGERPRINT_HEADER)
        if served is None:
            raise WorkerFault(f"{DEPENDENCY} does not say which model its vectors are of")
        if served != model.fingerprint:
            raise _ModelChanged(model.fingerprint, served)
        if len(response.content) < _THREAD_FROM_BYTES:
            return read_vectors(response.content, len(inputs), model.dim)
        return await asyncio.to_thread(read_vectors, response.content, len(inputs), model.dim)
