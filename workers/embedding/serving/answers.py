"""Encode vectors in the format of OpenAI's clients.

A multi-vector is flat: `embedding` holds tokens * dim numbers, and `shape` is [tokens, dim].
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

import orjson

from ingestion.model import Vectors


def encode_answer(model_id: str, vectors: Sequence[Vectors], *, as_base64: bool, tokens: int) -> bytes:
    """JSON with numbers, or with base64 of little-endian float32. `tokens`: the usage to report."""
    answer = {
        "object": "list",
        "model": model_id,
        "data": [_item(index, item, as_base64) for index, item in enumerate(vectors)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _item(index: int, vectors: Vectors, as_base64: bool) -> dict[str, Any]:
    flat = vectors.ravel()
    if as_base64:
        embedding: Any = binascii.b2a_base64(flat.astype("<f4", copy=False).data, newline=False).decode()
    else:
        embedding = flat
    return {"object": "embedding", "index": index, "embedding": embedding, "shape": vectors.shape}
