"""The embedding service: one model behind HTTP, in the format of OpenAI's clients.

A multi-vector is sent flat: `embedding` holds tokens * dim numbers, and `shape` [tokens, dim] says how to read them.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from ingestion.errors import IngestError, PermanentError
from ingestion.model import Page, Vectors
from ingestion.ports import Embedder

log = structlog.get_logger()

MAX_INPUTS = 64
MAX_INPUT_CHARS = 200_000

Text = Annotated[str, Field(max_length=MAX_INPUT_CHARS)]


class EmbeddingRequest(BaseModel):
    """What OpenAI's clients send, and `input_type`: a query and a page may be embedded differently."""

    model_config = ConfigDict(extra="forbid")

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    model: str = ""
    input_type: Literal["query", "document"] = "query"
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


def create_service(embedder: Embedder, model_id: str) -> FastAPI:
    """The application around a loaded model."""
    app = FastAPI(title="Pagemill embedding service", docs_url=None, redoc_url=None)

    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest) -> dict[str, Any]:
        texts = [body.input] if isinstance(body.input, str) else body.input
        if body.input_type == "query":
            vectors = await embedder.embed_queries(texts)
        else:
            vectors = await embedder.embed_pages([Page(1, 0, 0, b"", text) for text in texts])
        return {
            "object": "list",
            "model": model_id,
            "data": [_item(index, found, body.encoding_format) for index, found in enumerate(vectors)],
            "usage": {"prompt_tokens": sum(map(len, vectors)), "total_tokens": sum(map(len, vectors))},
        }

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {
            "id": model_id,
            "object": "model",
            "owned_by": "pagemill",
            "fingerprint": embedder.fingerprint,
            "dim": embedder.dim,
        }
        return {"object": "list", "data": [model]}

    @app.get("/health")
    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready", "model": model_id}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(IngestError)
    async def refused(request: Request, error: IngestError) -> JSONResponse:
        is_callers = isinstance(error, PermanentError)
        log.warning("not embedded", path=request.url.path, code=error.code, cause=error.message)
        body = {"error": {"message": error.message, "type": "invalid_request_error" if is_callers else error.code}}
        return JSONResponse(body, status_code=400 if is_callers else 503)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("embedding failed", path=request.url.path, exc_info=error)
        return JSONResponse({"error": {"message": "internal error", "type": "internal"}}, status_code=500)

    return app


def _item(index: int, vectors: Vectors, encoding: str) -> dict[str, Any]:
    flat = vectors.astype("<f4").ravel()
    return {
        "object": "embedding",
        "index": index,
        "embedding": base64.b64encode(flat.tobytes()).decode() if encoding == "base64" else flat.tolist(),
        "shape": list(vectors.shape),
    }
