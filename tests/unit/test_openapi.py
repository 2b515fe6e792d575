"""The OpenAPI document describes every answer: schemathesis makes requests from it, with and without a key."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from ingestion.model import Page
from tests.support.fuzz_api import faults_of
from tests.support.memory_api import COLLECTION, KEY, MemoryApi, memory_api, picture

_EXAMPLES = 4


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, MemoryApi]]:
    api = memory_api()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(api.app, log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", api
        finally:
            server.should_exit = True
            thread.join()


def test_no_answer_is_a_5xx_or_not_described(served: tuple[str, MemoryApi]) -> None:
    url, api = served
    page = Page(1, 200, 300, picture(200, 300), "the torque of the axle", image_format="png")
    document = asyncio.run(api.add_ready([page]))
    known = {"document_id": document.id, "collection": COLLECTION, "page": 1}
    faults = [
        *faults_of(url, None, examples=2),
        *faults_of(url, KEY, examples=_EXAMPLES, known=known),
        *faults_of(url, KEY, examples=_EXAMPLES),
    ]
    assert not faults, "\n\n".join(f"{route}: {error}" for route, error in faults)


def test_every_problem_has_its_codes_and_examples() -> None:
    document: dict[str, Any] = memory_api().app.openapi()
    assert "HTTPValidationError" not in str(document)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path not in ("/metrics",):
                    content = response["content"]["application/problem+json"]
                    assert content["examples"], (path, method, status)
    search = document["paths"]["/api/v1/collections/{collection}/search"]["post"]
    assert set(search["responses"]["429"]["content"]["application/problem+json"]["examples"]) >= {"overloaded"}
    upload = document["paths"]["/api/v1/collections/{collection}/documents"]["post"]
    assert "encrypted_pdf" in upload["responses"]["422"]["content"]["application/problem+json"]["examples"]
    assert document["components"]["schemas"]["SearchRequest"]["example"]["query"]
