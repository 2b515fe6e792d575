"""Embeddings from the embedding service, over HTTP in OpenAI's format."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx
import numpy as np

from ingestion.errors import BadRequest, DependencyUnavailable, IngestError, WorkerFault
from ingestion.model import Page, Vectors
from ingestion.settings import EmbedderSettings

DEPENDENCY = "embedder"
_INPUTS_PER_REQUEST: Final = 64


def translate(error: httpx.HTTPError) -> IngestError:
    """What the pipeline calls an exception of httpx."""
    if isinstance(error, httpx.HTTPStatusError):
        status, body = error.response.status_code, error.response.text[:300]
        if status in (429, 502, 503, 504):
            return DependencyUnavailable(DEPENDENCY, f"HTTP {status}: {body}")
        if status >= 500:
            return WorkerFault(f"{DEPENDENCY} failed: HTTP {status}: {body}")
        return BadRequest(f"{DEPENDENCY} refused the request: HTTP {status}: {body}")
    return DependencyUnavailable(DEPENDENCY, f"{type(error).__name__}: {error}")


class RemoteEmbedder:
    """Embedder over an embedding service that takes text. What it embeds with is asked of it at the first use."""

    wants_pixels = False

    def __init__(self, settings: EmbedderSettings) -> None:
        self._client = httpx.AsyncClient(base_url=settings.embedder_url, timeout=settings.embedder_timeout_s)
        self._model: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    @property
    def fingerprint(self) -> str:
        """Known after `connect` or the first embedding."""
        return str(self._model.get("fingerprint", ""))

    @property
    def dim(self) -> int:
        return int(self._model.get("dim", 0))

    async def connect(self) -> None:
        """Ask the service for its model. Raises DependencyUnavailable."""
        answer = await self._request("GET", "/v1/models")
        self._model = answer["data"][0]

    async def ping(self) -> None:
        await self._request("GET", "/ready")

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return await self._embed([page.text for page in pages], "document")

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        return await self._embed(queries, "query")

    async def _embed(self, texts: Sequence[str], input_type: Literal["query", "document"]) -> list[Vectors]:
        if not self._model:
            await self.connect()
        vectors: list[Vectors] = []
        for start in range(0, len(texts), _INPUTS_PER_REQUEST):
            answer = await self._request(
                "POST",
                "/v1/embeddings",
                json={
                    "model": self._model["id"],
                    "input": list(texts[start : start + _INPUTS_PER_REQUEST]),
                    "input_type": input_type,
                    "encoding_format": "base64",
                },
            )
            vectors += [_decode(item) for item in sorted(answer["data"], key=lambda item: int(item["index"]))]
        return vectors

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, **options)
            response.raise_for_status()
            body = response.json()
        except httpx.HTTPError as error:
            raise translate(error) from error
        except ValueError as error:
            raise WorkerFault(f"{DEPENDENCY} at {self._client.base_url} did not answer with JSON: {error}") from error
        if not isinstance(body, dict):
            raise WorkerFault(f"{DEPENDENCY} at {self._client.base_url} did not answer with a JSON object")
        return body


def _decode(item: dict[str, Any]) -> Vectors:
    """One item of `data`: base64 of little-endian float32, `shape` [tokens, dim]."""
    tokens, dim = item["shape"]
    flat = np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4")
    return flat.reshape(tokens, dim).astype(np.float32, copy=False)
