"""Requests and answers of an embedding service: OpenAI's format, with the service's model."""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import orjson
from PIL import Image

from ingestion.errors import BadRequest, WorkerFault
from ingestion.model import Page, Vectors

Modality = Literal["text", "image"]
InputType = Literal["query", "document"]

FINGERPRINT_HEADER: Final = "x-embedder-fingerprint"
"""Header of an answer: the fingerprint of the model that made its vectors."""

_PNG_LEVEL: Final = 1
"""A page of text at 200 DPI takes 0.1 s, a noisy scan 0.7 s; level 6 takes twice that and saves a tenth at most."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_DEFAULT_MAX_INPUTS: Final = 64
_SMALL_PX: Final = 56
"""Two patches of ColQwen2 in each direction, the least that it takes."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A service's model. `max_inputs` is what it accepts in one request."""

    fingerprint: str
    dim: int
    wants_pixels: bool
    max_inputs: int


def read_model(body: bytes) -> ServedModel:
    """The answer of /v1/models. Raises WorkerFault where it is not that of an embedding service of Pagemill."""
    try:
        model: dict[str, Any] = orjson.loads(body)["data"][0]
        return ServedModel(
            fingerprint=str(model["fingerprint"]),
            dim=int(model["dim"]),
            wants_pixels=bool(model.get("wants_pixels", False)),
            max_inputs=int(model.get("max_inputs", _DEFAULT_MAX_INPUTS)),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise WorkerFault(f"no embedding service's list of models: {type(error).__name__}: {error}") from error


def request_body(inputs: Sequence[str], modality: Modality, input_type: InputType) -> bytes:
    """It names no model: which one has answered is checked by the fingerprint."""
    return orjson.dumps({"input": inputs, "modality": modality, "input_type": input_type, "encoding_format": "base64"})


def read_vectors(body: bytes, count: int, dim: int) -> list[Vectors]:
    """One (tokens, dim) float32 array for each of `count` inputs, in order. Raises WorkerFault."""
    try:
        items: list[dict[str, Any]] = sorted(orjson.loads(body)["data"], key=lambda item: int(item["index"]))
        vectors = [_decode(item) for item in items]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkerFault(f"an answer without readable vectors: {type(error).__name__}: {error}") from error
    if len(vectors) != count or any(found.shape[1] != dim for found in vectors):
        raise WorkerFault(
            f"{count} inputs were answered with {[found.shape for found in vectors]}, of {dim} dimensions"
        )
    return vectors


def _decode(item: dict[str, Any]) -> Vectors:
    """One item of `data`: base64 of little-endian float32, `shape` [tokens, dim]."""
    tokens, dim = item["shape"]
    flat = np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4")
    return flat.reshape(tokens, dim).astype(np.float32, copy=False)


def data_uri(page: Page) -> str:
    """The page's image as it was rendered, without loss. An image that is scaled before the model gives other vectors.

    Blocks for as long as compressing takes. Raises BadRequest for a page without its pixels.
    """
    if page.image.startswith(_PNG_SIGNATURE):  # it is kept without loss already
        return _png_uri(page.image)
    if page.pixels is None:
        raise BadRequest(f"page {page.page_number} comes without its picture, and the embedding service wants it")
    encoded = io.BytesIO()
    Image.fromarray(page.pixels).save(encoded, "PNG", compress_level=_PNG_LEVEL)
    return _png_uri(encoded.getvalue())


def small_input(model: ServedModel) -> str:
    """Something small for the model to embed, each time another one, so that no cache knows it."""
    if not model.wants_pixels:
        return f"proof {secrets.token_hex(8)}"
    noise = np.frombuffer(secrets.token_bytes(_SMALL_PX * _SMALL_PX * 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise.reshape(_SMALL_PX, _SMALL_PX, 3)).save(encoded, "PNG")
    return _png_uri(encoded.getvalue())


def _png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def batches(inputs: Sequence[str], *, max_inputs: int, max_chars: int) -> Iterator[Sequence[str]]:
    """Consecutive inputs, bounded in number and in characters; an input that is larger than that goes alone."""
    start, chars = 0, 0
    for end, one in enumerate(inputs):
        if end > start and (end - start >= max_inputs or chars + len(one) > max_chars):
            yield inputs[start:end]
            start, chars = end, 0
        chars += len(one)
    if start < len(inputs):
        yield inputs[start:]
