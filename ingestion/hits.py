"""A hit of a search, in the one shape that search, query cache, API and client share."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from ingestion.search_mode import SearchMode


class Hit(BaseModel):
    """A page that answers the query. The fields of the HTTP API's JSON, and two more for the server alone."""

    # The API always sends every field, and its OpenAPI schema says so.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    document_id: str
    filename: str
    page: int
    """Counts from 1."""
    score: float
    """By the mode: MaxSim, the sum over query tokens; BM25; or the sum of reciprocal ranks in both rankings."""
    image_url: str = ""
    """Signed anew for every answer. Empty in the query cache."""
    snippet: str = ""
    page_url: str = ""
    """The page in this API: its text and sizes. Begins at the API's root; needs the API key."""
    page_image_url: str = ""
    """The page's image in this API. Begins at the API's root; needs the API key."""
    metadata: dict[str, str | int | float | bool | None] | None = None
    """Of the document. None unless the request asked for it."""
    tags: list[str] | None = None
    page_key: int = Field(0, exclude=True, repr=False)
    """0 where the hit came over HTTP."""
    image_key: str = Field("", exclude=True, repr=False)
    """The page image's key in the object store. Empty where the hit came over HTTP."""


class SearchResult(BaseModel):
    """The answer of the HTTP API to a search: best hits first."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    hits: list[Hit]
    mode: SearchMode = SearchMode.SEMANTIC
    """The mode that the hits were found in. APIs of earlier releases have no other one, and do not name it."""
    notes: list[str] = []
    """For people: why pages may be missing. Empty where all pages were searched."""


def encode_hits(hits: Sequence[Hit]) -> bytes:
    """All fields of all hits, for the query cache."""
    return json.dumps([dict(hit) for hit in hits]).encode()


def decode_hits(data: bytes) -> list[Hit]:
    """The inverse of `encode_hits`. Raises ValueError or TypeError where `data` is something else."""
    return [Hit.model_validate(fields) for fields in json.loads(data)]
