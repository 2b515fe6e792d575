"""Requests to the API: repetition, and the translation of httpx exceptions and problem documents into our errors."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import stamina

from ingestion.client.answers import RETRYABLE_STATUS, ApiUnavailable, parse, problem_of
from ingestion.client.target import Target
from ingestion.client.views import Listing
from ingestion.errors import BadRequest, not_text
from ingestion.model import check_text

CONNECT_S: Final = 5.0
# The server answers an upload when it has opened and stored the file, which takes long for a gigabyte.
_READ_S: Final = 300.0
RETRY_FOR_S: Final = 60.0
_CONNECTIONS: Final = 100

L = TypeVar("L", bound=Listing)
ResponseHook: TypeAlias = Callable[[httpx.Response], Awaitable[None]]


class ApiRequests:
    """The base of the client: it sends requests, and repeats them as ApiClient says."""

    def __init__(self, target: Target, http: httpx.AsyncClient) -> None:
        self._target = target
        self._http = http
        self._has_answered = False
        self._failing_since_s: float | None = None
        self._retry = stamina.AsyncRetryingCaller(attempts=8, timeout=None, wait_initial=0.5, wait_max=10.0).on(
            self._backoff
        )

    async def _request(self, method: str, url: str, **options: Any) -> bytes:
        return await self._retry(self._send, method, url, **options)

    async def _listed(self, view: type[L], url: str, query: Mapping[str, str | int]) -> AsyncIterator[L]:
        """The pages of a listing. Each is requested as needed."""
        after: dict[str, str] = {}
        while True:
            page = parse(view, await self._request("GET", url, params={**query, **after}))
            yield page
            if page.next is None:
                return
            after = {"after": page.next}

    async def _send(self, method: str, url: str, **options: Any) -> bytes:
        return (await self._answer(method, url, **options)).content

    async def _answer(self, method: str, url: str, **options: Any) -> httpx.Response:
        with self._translate_errors():
            response = await self._http.request(method, url, **options)
        self._has_answered = True
        if not response.is_server_error and response.status_code not in RETRYABLE_STATUS:
            self._failing_since_s = None
        if not response.is_success:
            raise problem_of(response)
        return response

    def _backoff(self, error: Exception) -> bool | float:
        """For stamina: False stops the retries, True waits with its own backoff, a number is the wait in seconds."""
        if not isinstance(error, ApiUnavailable) or not self._has_answered:
            return False
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if now_s - self._failing_since_s > RETRY_FOR_S:
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


def open_http(
    target: Target, *, on_response: ResponseHook | None = None, max_connections: int | None = None
) -> httpx.AsyncClient:
    """The HTTP client of an ApiClient. Raises BadRequest for an address or a key that cannot be sent."""
    stamina.instrumentation.set_on_retry_hooks(())  # Its log lines would mix with progress bars and JSON.
    try:
        return httpx.AsyncClient(
            base_url=f"{target.api_url.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {target.api_key}"},
            timeout=httpx.Timeout(_READ_S, connect=CONNECT_S),
            trust_env=not target.is_local,
            event_hooks={"response": [on_response] if on_response else []},
            limits=httpx.Limits(max_connections=max_connections or _CONNECTIONS),
        )
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise BadRequest(f"the API's address or key is not valid: {error}") from error


def document_url(document_id: str) -> str:
    return resource_url("documents", document_id)


def resource_url(kind: str, id_: str) -> str:
    return f"{kind}/{quote(check_text(id_, 'the id'), safe='')}"


def collection_url(collection: str, resource: str) -> str:
    return f"collections/{quote(check_text(collection, 'the collection'), safe='')}/{resource}"
