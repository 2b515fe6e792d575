"""Answer a request with vectors: from the cache, and from the model what the cache misses, each input once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

import numpy as np

from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import BadRequest, WorkerFault
from ingestion.model import ROWS_PER_PAGE, Page, Vectors
from ingestion.ports import Embedder
from ingestion.settings import ServingSettings
from workers.embedding.serving.admission import AdmissionLane
from workers.embedding.serving.bodies import BodyBudget
from workers.embedding.serving.cache import Values, VectorCache
from workers.embedding.serving.cache_format import CacheKeys, from_cache_value, to_cache_value
from workers.embedding.serving.decoding import Decoder
from workers.embedding.serving.images import ImageFile, read_image
from workers.embedding.serving.model import MonitoredModel
from workers.embedding.serving.requests import EmbeddingRequest, Modality, Pooling
from workers.embedding.serving.service_errors import ServiceError

P = ParamSpec("P")
T = TypeVar("T")

_CHARS_PER_TOKEN: Final = 4
"""A rough estimate for English text, used for admission only."""
_SPECIAL_TOKENS: Final = 2
_MAX_TEXT_TOKENS: Final = ROWS_PER_PAGE
DOCUMENTS: Final = "document"
_SMALL_BYTES: Final = 256 * 1024
"""Work on fewer bytes ends before a thread would start."""
_PATCHES_DECODED: Final = 8
"""Decoding the pixels of so many patches costs about as much time as one patch in the model."""
_SMALLEST: Final = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class EmbeddingInput:
    """One input and its cache key.

    `tokens`: estimated tokens of a text, or image tokens in the model. `cost`: the same; for a very large image, the
    cost of its decoding.
    """

    key: str
    content: str | ImageFile
    tokens: int
    cost: int


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request and the vectors known so far, by cache key. `inputs` are in the client's order."""

    request: EmbeddingRequest
    lane: AdmissionLane
    inputs: Sequence[EmbeddingInput]
    vectors: dict[str, Vectors]

    @property
    def is_complete(self) -> bool:
        return all(one.key in self.vectors for one in self.inputs)

    @property
    def missing(self) -> list[EmbeddingInput]:
        """The inputs to compute; equal inputs once."""
        return list({one.key: one for one in self.inputs if one.key not in self.vectors}.values())

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.inputs)

    @property
    def answer(self) -> list[Vectors]:
        return [self.vectors[one.key] for one in self.inputs]


class EmbeddingService:
    """The state that the HTTP endpoints share.

    One lane per served modality, and one more for texts that are documents: they are longer than queries and may
    wait, so they must not take the queries' capacity.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: ServingSettings,
        *,
        model_id: str,
        modalities: Collection[Modality] = ("text", "image"),
        max_patches: int = ROWS_PER_PAGE,
        cache: VectorCache | None = None,
    ) -> None:
        """`modalities`: to serve, as far as the model supports them. `max_patches`: largest cost of an image in the
        model. Raises BadRequest if no modality is left."""
        supported: tuple[Modality, ...] = ("text", "image") if embedder.wants_pixels else ("text",)
        limits = {"text": settings.embed_text_limit_tokens, "image": settings.embed_image_limit_patches}
        self.modalities = [modality for modality in supported if modality in modalities]
        self.lanes: dict[str, AdmissionLane] = {name: AdmissionLane(name, limits[name]) for name in self.modalities}
        if "text" in self.modalities and not embedder.wants_pixels:
            self.lanes[DOCUMENTS] = AdmissionLane(DOCUMENTS, settings.embed_document_limit_tokens)
        if not self.modalities:
            raise BadRequest(f"the {model_id} embedder does not embed {' or '.join(modalities)}s")
        self.model_id = model_id
        self.model = MonitoredModel(embedder)
        self.settings = settings
        self.bodies = BodyBudget(settings.embed_bodies_limit_bytes)
        self.cache = cache
        self._dim = embedder.dim
        self._sentence_tokens = self.model.sentence_tokens or _MAX_TEXT_TOKENS
        self._keys = CacheKeys(embedder.fingerprint)
        self._max_patches = max_patches
        self._decoder = Decoder(embedder, settings.embed_max_image_px)

    async def look_up(self, request: EmbeddingRequest) -> PendingRequest:
        """Check the request and read its vectors from the cache. Uses neither lane nor model. Raises ServiceError."""
        lane = self._lane(request)
        if request.modality == "text":
            inputs = [self._text_input(text, request) for text in request.inputs]
        else:
            inputs = await asyncio.to_thread(self._image_inputs, request)
        pending = PendingRequest(request, lane, inputs, {})
        if self.cache is not None:
            await self._take_hits(self.cache, pending)
        return pending

    async def complete(self, pending: PendingRequest) -> None:
        """Compute the missing vectors and cache them. Waits for the model; cancellation drops the work.

        Raises ServiceError (LaneFull and ModelLost included) and IngestError.
        """
        missing = pending.missing
        with pending.lane.admit(len(missing), sum(one.cost for one in missing)):
            computed = await self._compute(pending.request, missing)
            size = sum(vectors.nbytes for vectors in computed)
            stored = await off_loop(size, _to_cache_values, computed, pending.request.pooling)
            rounded = await off_loop(size, self._from_cache_values, stored)
        pending.vectors.update(zip((one.key for one in missing), rounded, strict=True))
        if self.cache is not None:
            for one, value in zip(missing, stored, strict=True):
                if value:
                    self.cache.put(one.key, value)

    def _lane(self, request: EmbeddingRequest) -> AdmissionLane:
        if request.model not in ("", self.model_id):
            raise ServiceError(
                f"model {request.model!r} is not served here, only {self.model_id!r}",
                param="model",
                code="model_not_found",
                status=404,
            )
        if request.modality not in self.modalities:
            raise ServiceError(
                f"{request.modality} is not served here, only {', '.join(self.modalities)}",
                param="modality",
                code="lane_not_served",
            )
        if self.model.embedder.wants_pixels and request.modality == "text" and request.kind == "document":
            raise ServiceError(f"{self.model_id} embeds documents as images, not as text", param="modality")
        is_document = request.modality == "text" and request.kind == "document"
        return self.lanes[DOCUMENTS if is_document else request.modality]

    def _text_input(self, text: str, request: EmbeddingRequest) -> EmbeddingInput:
        tokens = -(-len(text) // _CHARS_PER_TOKEN) + _SPECIAL_TOKENS
        key = self._keys.key("text", request.kind, request.pooling, text.encode())
        most = self._sentence_tokens if request.pooling == "mean" else _MAX_TEXT_TOKENS
        return EmbeddingInput(key, text, min(tokens, most), min(tokens, most))

    def _image_inputs(self, request: EmbeddingRequest) -> list[EmbeddingInput]:
        """Blocks: decodes base64, reads headers and hashes megabytes."""
        inputs = []
        for index, uri in enumerate(request.inputs):
            image = read_image(uri, index, self.settings.embed_max_image_px)
            key = self._keys.key("image", request.kind, request.pooling, image.encoded)
            patches = min(image.patches, self._max_patches)
            inputs.append(EmbeddingInput(key, image, patches, max(patches, image.patches // _PATCHES_DECODED)))
        return inputs

    async def _take_hits(self, cache: VectorCache, pending: PendingRequest) -> None:
        """Add cached vectors to the request. Deletes invalid values from the cache."""
        values = await cache.look_up([one.key for one in pending.inputs])
        size = sum(len(value or b"") for value in values)
        hits = misses = invalid = 0
        decoded = await off_loop(size, self._decode, values)
        for one, value, vectors in zip(pending.inputs, values, decoded, strict=True):
            if value is None:
                misses += 1
            elif vectors is None:
                cache.delete(one.key)
                invalid += 1
            else:
                pending.vectors[one.key] = vectors
                hits += 1
        pending.lane.count_lookup(hits, misses, invalid)

    def _decode(self, values: Values) -> list[Vectors | None]:
        """None for a missing or an invalid value."""
        vectors: list[Vectors | None] = []
        for value in values:
            try:
                vectors.append(None if value is None else from_cache_value(value, self._dim))
            except ValueError:
                vectors.append(None)
        return vectors

    async def _compute(self, request: EmbeddingRequest, missing: Sequence[EmbeddingInput]) -> list[Vectors]:
        if request.modality == "image":
            images = [one.content for one in missing if isinstance(one.content, ImageFile)]
            embedded = await gather_or_cancel(*(self._embed_images(group) for group in self._decoder.groups(images)))
            return [vectors for group in embedded for vectors in group]
        texts = [str(one.content) for one in missing]
        if request.pooling == "mean" and self.model.sentence_tokens:
            return await self.model.embed_sentences(texts, urgent=request.kind == "query")
        if request.kind == "query":
            return await self.model.embed_queries(texts)
        return await self.model.embed_pages([Page(1, 0, 0, b"", text) for text in texts])

    async def _embed_images(self, group: Sequence[ImageFile]) -> list[Vectors]:
        async with self._decoder.decoded(group) as pages:
            return await self.model.embed_pages(pages)

    def _from_cache_values(self, stored: Sequence[bytes]) -> list[Vectors]:
        """Decode as the cache would, so that a computed answer equals a cached one."""
        try:
            return [
                from_cache_value(value, self._dim) if value else np.empty((0, self._dim), np.float32)
                for value in stored
            ]
        except ValueError as error:
            raise WorkerFault(f"the model returned invalid vectors: {error}", stage="embed") from error


async def off_loop(size_bytes: int, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run `work` here if it is small, and in a thread if it would block the event loop."""
    if size_bytes < _SMALL_BYTES:
        return work(*arguments, **options)
    return await asyncio.to_thread(work, *arguments, **options)


def _to_cache_values(computed: Sequence[Vectors], pooling: Pooling) -> list[bytes]:
    return [to_cache_value(_mean(vectors) if pooling == "mean" else vectors) for vectors in computed]


def _mean(vectors: Vectors) -> Vectors:
    """(tokens, dim) -> (1, dim) of unit length; (0, dim) stays (0, dim).

    For embedders without published pooling. A vector that is pooled already stays the same, up to rounding.
    """
    if not len(vectors):
        return vectors
    mean: Vectors = vectors.mean(axis=0, keepdims=True)
    mean /= max(float(np.linalg.norm(mean)), _SMALLEST)
    return mean
