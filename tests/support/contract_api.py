"""A small HTTP server that speaks the API's contract from memory, for the client's side of it.

It misbehaves on demand: a file named `bad…` is refused, `fails…` ends as failed, `busy…` meets a 503 first,
`broken…` has an event stream that breaks off once. Documents wait as `queued` until their events are asked for.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response, StreamingResponse

API_KEY = "a key for tests"
PAGES = 3
RETRY_AFTER_S = 1


@dataclass
class ContractApi:
    """The server's memory, open to the test. `list_limit` keeps listings short, so that paging is needed."""

    url: str
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    hits: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, float]] = field(default_factory=list)
    list_limit: int = 2
    turned_away: set[str] = field(default_factory=set)

    def add(self, name: str, collection: str = "default", state: str = "queued") -> str:
        document_id = hashlib.sha256(f"{collection}/{name}".encode()).hexdigest()[:32]
        self.documents[document_id] = {
            "document_id": document_id,
            "collection": collection,
            "filename": name,
            "state": state,
            "pages": PAGES,
            "pages_done": PAGES if state == "ready" else 0,
            "attempts": 0,
            "error": None,
        }
        return document_id

    def finish(self, document: dict[str, Any]) -> None:
        if document["filename"].startswith("fails"):
            error = {"code": "page_render_failed", "stage": "render", "message": "page 2 cannot be drawn"}
            document |= {"state": "failed", "error": error}
        else:
            document |= {"state": "ready", "pages_done": PAGES}

    def once(self, document: dict[str, Any], kind: str) -> bool:
        """True the first time for a document whose name begins with `kind`."""
        if not document["filename"].startswith(kind) or document["filename"] in self.turned_away:
            return False
        self.turned_away.add(document["filename"])
        return True


@contextmanager
def contract_api() -> Iterator[ContractApi]:
    """Serve on a free port in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = ContractApi(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(_app(api), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield api
        finally:
            server.should_exit = True
            thread.join()


def _problem(status: int, code: str, detail: str) -> JSONResponse:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse({"status": status, "code": code, "detail": detail}, status, headers)


def _app(api: ContractApi) -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/api/v1")

    @app.middleware("http")
    async def key(request: Request, call_next: Any) -> Response:
        api.requests.append((request.method, request.url.path, time.monotonic()))
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return _problem(401, "unauthorized", "the API key is wrong")
        response: Response = await call_next(request)
        return response

    @router.post("/collections/{collection}/documents", status_code=202)
    async def upload(collection: str, request: Request) -> Response:
        async with request.form() as form:
            file = form["files"]
            assert isinstance(file, UploadFile)
            name = str(file.filename)
        if name.startswith("bad"):
            return _problem(422, "not_a_pdf", f"{name}: the file does not begin with %PDF-")
        document = api.documents[api.add(name, collection)]
        if api.once(document, "busy"):
            return _problem(503, "dependency_unavailable", "kafka does not answer")
        accepted = {key: document[key] for key in ("document_id", "filename", "state")}
        return JSONResponse({"documents": [accepted | {"status_url": "/"}], "refused": []}, 202)

    @router.get("/documents/{document_id}/events")
    async def events(document_id: str) -> Response:
        if document_id not in api.documents:
            return _problem(404, "not_found", f"no document {document_id}")
        return StreamingResponse(_events(api, api.documents[document_id]), media_type="text/event-stream")

    @router.get("/documents/{document_id}")
    async def get(document_id: str) -> Response:
        found = api.documents.get(document_id)
        return JSONResponse(found) if found else _problem(404, "not_found", f"no document {document_id}")

    @router.get("/documents")
    async def listing(collection: str | None = None, after: str = "") -> dict[str, Any]:
        wanted = [d for d in api.documents.values() if collection in (None, d["collection"])]
        rest = sorted((d for d in wanted if d["document_id"] > after), key=lambda d: str(d["document_id"]))
        page = rest[: api.list_limit]
        return {"documents": page, "next": page[-1]["document_id"] if len(rest) > len(page) else None}

    @router.delete("/documents/{document_id}", status_code=204)
    async def delete(document_id: str) -> None:
        del api.documents[document_id]

    @router.post("/collections/{collection}/search")
    async def search(collection: str, wanted: dict[str, Any]) -> dict[str, Any]:
        return {"hits": api.hits[: wanted["top_k"]]}

    app.include_router(router)
    return app


async def _events(api: ContractApi, document: dict[str, Any]) -> AsyncIterator[str]:
    yield ": hello\r\n\r\n"
    document |= {"state": "processing", "pages_done": 1}
    yield f"event: document\r\ndata: {json.dumps(document)}\r\n\r\n"
    if not api.once(document, "broken"):
        api.finish(document)
        yield f"event: document\r\ndata: {json.dumps(document)}\r\n\r\n"
