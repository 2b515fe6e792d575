"""The real API over fake stores: no servers, no worker, and faults on demand.

Routing, authentication, form parsing, views, problem documents and event streams are the product's. The fakes are the
document records, the use cases `submit`, `delete` and `search`, and the progress of documents. A file named `bad…` is
refused, `fails…` ends as failed, `busy…` gets a 503 first, `broken…` has an event stream that breaks off once.
Documents stay `queued` until a client reads their events.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.cancel import CancelResult
from ingestion.effort import Effort
from ingestion.errors import Conflict, DependencyUnavailable, NotAPdf, NotFound
from ingestion.filters import Filter, matches
from ingestion.hits import Hit, SearchResult
from ingestion.model import CANCELLATION, UNFINISHED, Document, DocumentState, Failure, document_id, source_key
from ingestion.search import Searcher
from ingestion.search_mode import SearchMode
from ingestion.settings import Settings
from ingestion.submit import Upload, UploadOptions

API_KEY = "a key for tests"
PAGES = 3


@dataclass
class FakeApi:
    """The state of the fakes, open to the test."""

    url: str
    documents: dict[str, Document] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    filters: list[Filter | None] = field(default_factory=list)
    """Of each search."""
    requests: list[tuple[str, str, float]] = field(default_factory=list)
    """Method, path and time of each request, by the monotonic clock."""
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def add(self, filename: str, collection: str = "default", state: str = "queued", sha256: str = "") -> str:
        id_ = document_id(collection, filename, sha256)
        self.documents[id_] = Document(
            id=id_,
            collection=collection,
            filename=filename,
            object_key=source_key(id_),
            sha256=sha256,
            size_bytes=1,
            pages=PAGES,
            pages_done=PAGES if state == "ready" else 0,
            first_page_key=0,
            state=DocumentState(state),
        )
        return id_

    def finish(self, document: Document) -> None:
        """Do the last step of a worker."""
        if document.filename.startswith("fails"):
            error = Failure("page_render_failed", "render", "page 2 cannot be rendered")
            self.documents[document.id] = replace(document, state=DocumentState.FAILED, error=error)
        else:
            self.documents[document.id] = replace(document, state=DocumentState.READY, pages_done=PAGES)

    def is_first(self, document: Document, kind: str) -> bool:
        """True for the first call about a document whose name begins with `kind`."""
        key = (document.id, kind)
        is_first = document.filename.startswith(kind) and key not in self._seen
        self._seen.add(key)
        return is_first


class UnusedStore:
    """A store that no request of these tests reaches."""

    def __getattr__(self, name: str) -> Any:
        async def fail(*arguments: Any, **options: Any) -> None:
            raise AssertionError(f"{name} was called")

        return fail


@dataclass(frozen=True)
class FakeDocuments(UnusedStore):
    """The records that the routes read."""

    api: FakeApi

    async def get(self, id_: str) -> Document | None:
        return self.api.documents.get(id_)

    async def list(
        self,
        collection: str | None,
        *,
        limit: int,
        after: str | None = None,
        where: Filter | None = None,
        tenant: str | None = None,
    ) -> list[Document]:
        found = [one for one in self.api.documents.values() if collection in (None, one.collection)]
        wanted = sorted(one.id for one in found if where is None or matches(where, one))
        return [self.api.documents[id_] for id_ in wanted if id_ > (after or "")][:limit]

    async def count(self, collection: str, where: Filter) -> int:
        return len(await self.list(collection, limit=1_000_000, where=where))

    async def archived_collection(self, document_id: str) -> str | None:
        return None

    async def require_active(self, collection: str) -> None:
        return None


@dataclass(frozen=True)
class FakeSubmitter:
    api: FakeApi

    async def submit(self, collection: str, upload: Upload, options: UploadOptions) -> Document:
        if upload.filename.startswith("bad"):
            raise NotAPdf("the file does not begin with %PDF-")
        document = self.api.documents[self.api.add(upload.filename, collection, sha256=upload.sha256)]
        labels = {"metadata": options.metadata, "tags": options.tags, "key": options.key}
        self.api.documents[document.id] = document = replace(document, **labels)
        if self.api.is_first(document, "busy"):
            raise DependencyUnavailable("kafka", "no answer")
        return document


@dataclass(frozen=True)
class FakeRemover:
    api: FakeApi

    async def delete_document(self, id_: str) -> None:
        if self.api.documents.pop(id_, None) is None:
            raise NotFound(f"no document {id_}")

    async def delete_matching(self, collection: str, where: Filter, limit: int) -> int:
        """Two at a time, so that a client has to ask again."""
        found = [one for one in self.api.documents.values() if one.collection == collection and matches(where, one)]
        for one in found[:2]:
            del self.api.documents[one.id]
        return min(len(found), 2)

    async def delete_collection(self, collection: str) -> None:
        for id_ in [id_ for id_, one in self.api.documents.items() if one.collection == collection]:
            del self.api.documents[id_]


@dataclass(frozen=True)
class FakeCanceller:
    api: FakeApi

    async def cancel_document(self, id_: str) -> Document:
        document = self.api.documents[id_]
        if document.state not in (*UNFINISHED, *CANCELLATION):
            raise Conflict(f"document {id_} is {document.state.value}: there is no work to cancel")
        self.api.documents[id_] = replace(document, state=DocumentState.CANCELLED)
        return self.api.documents[id_]

    async def cancel_collection(self, collection: str, where: Filter | None = None) -> CancelResult:
        found = [one for one in self.api.documents.values() if one.collection == collection]
        begun = [one for one in found if one.state in UNFINISHED and (where is None or matches(where, one))]
        for one in begun:
            await self.cancel_document(one.id)
        return CancelResult(len(begun), 0)


@dataclass(frozen=True)
class FakeProgress(UnusedStore):
    """Only event streams read it: each read takes the document one step further."""

    api: FakeApi

    async def read_many(self, ids: Sequence[str]) -> list[dict[str, str]]:
        for id_ in ids:
            self._go_on(id_)
        return [{} for _ in ids]

    async def outages(self) -> dict[str, datetime]:
        return {}

    def _go_on(self, id_: str) -> None:
        document = self.api.documents.get(id_)
        if document is None or document.state.is_settled:
            return
        if document.state is DocumentState.QUEUED:
            self.api.documents[id_] = replace(document, state=DocumentState.PROCESSING, pages_done=1)
        elif self.api.is_first(document, "broken"):
            raise RuntimeError("this event stream breaks off")
        else:
            self.api.finish(document)


@dataclass(frozen=True)
class FakeSearcher:
    api: FakeApi

    def check_capacity(self) -> None:
        return None

    async def answer(
        self,
        collection: str,
        query: str,
        top_k: int,
        effort: Effort,
        mode: SearchMode | None,
        where: Filter | None,
    ) -> SearchResult:
        self.api.filters.append(where)
        return SearchResult(hits=self.api.hits[:top_k], mode=mode or SearchMode.HYBRID, notes=self.api.notes)


class FakeUsage:
    async def record(self, collection: str) -> None:
        return None


class FakeApiServer:
    """Serves the newest of its APIs. A request that is under way stays with the API that it came to."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._app: ASGIApp | None = None

    def fresh(self) -> FakeApi:
        """An API without documents, for the next requests. It reads the settings of the environment."""
        api = FakeApi(self._url)
        self._app = _app(api)
        return api

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None, "no API yet"
        await self._app(scope, receive, send)


@contextmanager
def fake_api_server() -> Iterator[FakeApiServer]:
    """Serve on a free port, in a thread. One for many tests: uvicorn takes a quarter of a second to start and stop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fakes = FakeApiServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(
            uvicorn.Config(fakes.serve, interface="asgi3", log_config=None, access_log=False, lifespan="off")
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield fakes
        finally:
            server.should_exit = True
            thread.join()


def _app(api: FakeApi) -> ASGIApp:
    settings = Settings()
    settings.api = settings.api.model_copy(update={"api_key": SecretStr(API_KEY)})
    services = SimpleNamespace(
        settings=settings,
        documents=FakeDocuments(api),
        progress=FakeProgress(api),
        **dict.fromkeys(("blobs", "vectors", "queue", "embedder", "dead_letters", "consumer_group"), UnusedStore()),
    )
    app = create_app(cast(Services, services), cast(Searcher, FakeSearcher(api)))
    app.state.submitter = FakeSubmitter(api)
    app.state.remover = FakeRemover(api)
    app.state.usage = FakeUsage()
    app.state.canceller = FakeCanceller(api)

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        api.requests.append((scope["method"], scope["path"], time.monotonic()))
        await app(scope, receive, send)

    return counted
