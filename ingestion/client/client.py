"""Pagemill's HTTP API as a Python object: httpx's exceptions and problem documents become ours here."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import stamina
from pydantic import BaseModel, ValidationError

from ingestion.client.target import Target
from ingestion.client.views import DocumentList, DocumentView, Found, Hit, UploadResult
from ingestion.errors import BadRequest, DependencyUnavailable, Fault, PermanentError, not_text
from ingestion.model import check_text

_V = TypeVar("_V", bound=BaseModel)

_CONNECT_S: Final = 5.0
# An upload is answered once the server has opened and stored the file, which takes a while for a gigabyte.
_READ_S: Final = 300.0
# The event stream says something more often than this, or it is broken.
_EVENT_S: Final = 20.0
_RETRY_FOR_S: Final = 60.0
_MAX_RETRY_AFTER_S: Final = 30.0
_RETRYABLE_STATUS: Final = frozenset({429, 502, 503, 504})
_LIST_LIMIT: Final = 100


class ApiError(PermanentError):
    """The API refused a request; `code` is the problem document's."""

    fault = Fault.CALLER

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ApiUnavailable(DependencyUnavailable):
    """The API does not answer, or says that it cannot serve now; `retry_after_s` is what it asks for."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__("the API", message)
        self.retry_after_s = retry_after_s


class ApiClient:
    """Requests to one API.

    A request is repeated while the connection breaks or the server cannot serve (429, 502 to 504), until none has
    succeeded for `_RETRY_FOR_S`; a server that has never answered is not waited for. Then, and from `events` at once,
    comes ApiUnavailable. Every other problem is ApiError. All methods may be called twice.
    """

    def __init__(self, target: Target, http: httpx.AsyncClient) -> None:
        self._target = target
        self._http = http
        self._has_answered = False
        self._failing_since_s: float | None = None
        self._retry = stamina.AsyncRetryingCaller(attempts=8, timeout=None, wait_initial=0.5, wait_max=10.0).on(
            self._backoff
        )

    async def check(self) -> None:
        """Raise unless the API answers and accepts the key."""
        await self._request("GET", "documents", params={"limit": 1})

    async def upload(self, collection: str, path: Path) -> DocumentView:
        """Stream one file from disk. Raises ApiError with the file's own code, BadRequest where it cannot be read."""
        try:
            answer = await self._retry(self._upload, _collection_url(collection, "documents"), path)
        except OSError as error:
            raise BadRequest(f"{path} cannot be read: {error.strerror}") from error
        return _parse(UploadResult, answer).documents[0]

    async def document(self, document_id: str) -> DocumentView:
        return _parse(DocumentView, await self._request("GET", _document_url(document_id)))

    async def documents(self, collection: str | None = None) -> AsyncIterator[DocumentView]:
        """Every document, or those of one collection, fetched as they are consumed."""
        query: dict[str, str | int] = {"limit": _LIST_LIMIT}
        if collection is not None:
            query["collection"] = collection
        while True:
            listed = _parse(DocumentList, await self._request("GET", "documents", params=query))
            for document in listed.documents:
                yield document
            if listed.next is None:
                return
            query["after"] = listed.next

    async def events(self, document_id: str) -> AsyncGenerator[DocumentView]:
        """The document as the server reports its changes, until the server or a broken connection ends the stream."""
        timeout = httpx.Timeout(_EVENT_S, connect=_CONNECT_S)
        with self._translate_errors():
            async with self._http.stream("GET", f"{_document_url(document_id)}/events", timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                    raise _problem(response)
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield _parse(DocumentView, line.removeprefix("data:"))

    async def search(self, collection: str, query: str, top_k: int) -> list[Hit]:
        body = {"query": check_text(query, "the query"), "top_k": top_k}
        return _parse(Found, await self._request("POST", _collection_url(collection, "search"), json=body)).hits

    async def delete(self, document_id: str) -> None:
        """Returns once no store holds anything of the document."""
        await self._request("DELETE", _document_url(document_id))

    async def _upload(self, url: str, path: Path) -> bytes:
        # A name that is not UTF-8 on disk cannot be sent as it is.
        name = os.fsencode(path.name).decode("utf-8", "replace")
        with path.open("rb") as file:
            return await self._send("POST", url, files={"files": (name, file, "application/pdf")})

    async def _request(self, method: str, url: str, **options: Any) -> bytes:
        return await self._retry(self._send, method, url, **options)

    async def _send(self, method: str, url: str, **options: Any) -> bytes:
        with self._translate_errors():
            response = await self._http.request(method, url, **options)
        self._has_answered = True
        if not response.is_server_error and response.status_code not in _RETRYABLE_STATUS:
            self._failing_since_s = None
        if not response.is_success:
            raise _problem(response)
        return response.content

    def _backoff(self, error: Exception) -> bool | float:
        """stamina's hook: False to give up, True for its own pause, or the pause in seconds."""
        if not isinstance(error, ApiUnavailable) or not self._has_answered:
            return False
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if now_s - self._failing_since_s > _RETRY_FOR_S:
            return False
        return error.retry_after_s or True

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            raise BadRequest(not_text(error)) from error
        except httpx.RequestError as error:
            cause = str(error) or type(error).__name__
            raise ApiUnavailable(f"{self._target.api_url}: {cause}; {self._target.remedy}") from error


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[ApiClient]:
    """A client for one API. Makes no request."""
    stamina.instrumentation.set_on_retry_hooks(())  # Its log lines would run into progress bars and JSON.
    try:
        http = httpx.AsyncClient(
            base_url=f"{target.api_url.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {target.api_key}"},
            timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S),
            trust_env=not target.is_local,
        )
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise BadRequest(f"the API's address or key cannot be used: {error}") from error
    async with http:
        yield ApiClient(target, http)


def _document_url(document_id: str) -> str:
    return f"documents/{quote(check_text(document_id, 'the id'), safe='')}"


def _collection_url(collection: str, resource: str) -> str:
    return f"collections/{quote(check_text(collection, 'the collection'), safe='')}/{resource}"


def _parse(view: type[_V], content: bytes | str) -> _V:
    try:
        return view.model_validate_json(content)
    except ValidationError as error:
        raise ApiUnavailable(f"its answer is not what Pagemill's API says ({error.errors()[0]['msg']})") from error


def _problem(response: httpx.Response) -> ApiError | ApiUnavailable:
    """The RFC 9457 problem document of an answer; a proxy in between may have sent something else."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    detail = str(problem.get("detail") or problem.get("title") or f"{response.status_code} {response.reason_phrase}")
    # A server that is stopping, or a proxy before it, answers 5xx without a problem document.
    if response.status_code in _RETRYABLE_STATUS or (response.is_server_error and not problem):
        return ApiUnavailable(detail, retry_after_s=_retry_after_s(response))
    return ApiError(str(problem.get("code") or f"http_{response.status_code}"), detail)


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return min(float(value), _MAX_RETRY_AFTER_S) if value.isdecimal() else None
