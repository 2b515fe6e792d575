"""A hit of a search, in the one shape that search, query cache, API and client share."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field


class Hit(BaseModel):
    """A page that answers the query. The fields of the HTTP API's JSON, and two more for the server alone."""

    # The API always sends every field, and its OpenAPI schema says so.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    document_id: str
    filename: str
    page: int
    """Counts from 1."""
    score: float
    """MaxSim: the sum over query tokens."""
    image_url: str = ""
    """Signed anew for every answer. Empty in the query cache."""
    snippet: str = ""
    page_url: str = ""
    """The page in this API: its text and sizes. Begins at the API's root; needs the API key."""
    page_image_url: str = ""
    """The page's image in this API. Begins at the API's root; needs the API key."""
    page_key: int = Field(0, exclude=True, repr=False)
    """0 where the hit came over HTTP."""
    image_key: str = Field("", exclude=True, repr=False)
    """The page image's key in the object store. Empty where the hit came over HTTP."""


class SearchResult(BaseModel):
    """The answer of the HTTP API to a search: best hits first."""

    hits: list[Hit]


def encode_hits(hits: Sequence[Hit]) -> bytes:
    """All fields of all hits, for the query cache."""
    return json.dumps([dict(hit) for hit in hits]).encode()


def decode_hits(data: bytes) -> list[Hit]:
    """The inverse of `encode_hits`. Raises ValueError or TypeError where `data` is something else."""
    return [Hit.model_validate(fields) for fields in json.loads(data)]
