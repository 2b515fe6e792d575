"""What a search finds: as it is remembered, and as it is answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """A page that answers the query; `page` counts from 1, `score` is the MaxSim sum over query tokens."""

    document_id: str
    filename: str
    page: int
    score: float
    image_url: str
    snippet: str


@dataclass(frozen=True, slots=True)
class Found:
    """A hit without its image address, which is signed anew for every answer."""

    document_id: str
    page_key: int
    page: int
    filename: str
    score: float
    image_key: str
    snippet: str


def encode_found(found: Sequence[Found]) -> bytes:
    return json.dumps([asdict(one) for one in found]).encode()


def decode_found(data: bytes) -> list[Found]:
    """The inverse of `encode_found`. Raises ValueError or TypeError where `data` is something else."""
    return [Found(**fields) for fields in json.loads(data)]
