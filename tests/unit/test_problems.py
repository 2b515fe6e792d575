"""Errors as problem documents."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from ingestion.api import problems
from ingestion.errors import ChildStalled, CorruptPdf, DependencyUnavailable, IngestError


@pytest.mark.parametrize(
    ("error", "status", "has_retry_after"),
    [
        (ChildStalled("this machine has too much to do"), 503, True),
        (DependencyUnavailable("s3", "x"), 503, True),
        (CorruptPdf("x"), 422, False),
    ],
)
async def test_a_temporary_error_has_retry_after(error: IngestError, status: int, has_retry_after: bool) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def fails() -> None:
        raise error

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()["code"]) == (status, error.code)
    assert ("retry-after" in answer.headers) is has_retry_after
