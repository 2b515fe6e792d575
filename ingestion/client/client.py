"""A client of the HTTP API: uploads, documents, pages and searches."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from ingestion.client.administration import AdministrationClient
from ingestion.client.answers import parse, problem_of
from ingestion.client.counted_file import CountedFile, OnSent
from ingestion.client.requests import CONNECT_S, ResponseHook, collection_url, document_url, open_http
from ingestion.client.target import Target
from ingestion.client.views import (
    DeleteResult,
    DocumentList,
    DocumentView,
    HighlightsView,
    PageImage,
    PageView,
    UploadLabels,
    UploadResult,
)
from ingestion.effort import Effort
from ingestion.errors import BadRequest
from ingestion.hits import Hit, SearchResult
from ingestion.model import Metadata, check_text, decoded_filename
from ingestion.search_mode import SearchMode

# An event stream that is silent for longer is broken: the server sends pings.
_EVENT_S: Final = 20.0
_LIST_LIMIT: Final = 100


class ApiClient(AdministrationClient):
    """Requests to one API. All methods may be repeated, except those that say that their request is not.

    A request is retried after a broken connection and after 429, 502, 503 and 504, until no request has succeeded for
    RETRY_FOR_S. Then ApiUnavailable is raised. It is raised at once by `events`, and where the API has never
    answered. Any other problem document is raised as ApiError.
    """

    async def check(self) -> None:
        """Raises ApiUnavailable, or ApiError where the API does not accept the key."""
        await self._request("GET", "documents", params={"limit": 1})

    async def upload(
        self, collection: str, path: Path, labels: UploadLabels | None = None, *, on_sent: OnSent | None = None
    ) -> DocumentView:
        """Upload one file, with its metadata, tags and key. It is read while it is sent.

        `on_sent` gets the bytes that were sent and those of the file; it begins anew where the upload is repeated.
        Raises ApiError with the code of a refused file, BadRequest for an unreadable file.
        """
        try:
            answer = await self._retry(self._upload, collection_url(collection, "documents"), path, labels, on_sent)
        except OSError as error:
            raise BadRequest(f"{path} cannot be read: {error.strerror}") from error
        return parse(UploadResult, answer).documents[0]

    async def document(self, document_id: str) -> DocumentView:
        return parse(DocumentView, await self._request("GET", document_url(document_id)))

    async def documents(self, collection: str | None = None, where: str | None = None) -> AsyncIterator[DocumentView]:
        """All documents, or those of one collection. Pages of the listing are requested as needed.

        `where`: a filter. It needs a collection.
        """
        query: dict[str, str | int] = {"limit": _LIST_LIMIT}
        if collection is not None:
            query["collection"] = collection
        if where is not None:
            query["filter"] = where
        async for page in self._listed(DocumentList, "documents", query):
            for document in page.documents:
                yield document

    async def list_documents(
        self, collection: str | None = None, *, limit: int = _LIST_LIMIT, after: str | None = None
    ) -> DocumentList:
        """One part of the listing, of at most `limit` documents after the id `after`."""
        query: dict[str, str | int] = {"limit": limit}
        query |= {name: value for name, value in (("collection", collection), ("after", after)) if value is not None}
        return parse(DocumentList, await self._request("GET", "documents", params=query))

    async def events(self, document_id: str) -> AsyncGenerator[DocumentView]:
        """The document at each change. The stream ends when the document is settled, or the connection breaks."""
        timeout = httpx.Timeout(_EVENT_S, connect=CONNECT_S)
        with self._translate_errors():
            async with self._http.stream("GET", f"{document_url(document_id)}/events", timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                    raise problem_of(response)
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield parse(DocumentView, line.removeprefix("data:"))

    async def search(self, collection: str, query: str, top_k: int, effort: Effort = Effort.BALANCED) -> list[Hit]:
        """The hits of `answer`, in the mode that the API has for searches that name none."""
        return (await self.answer(collection, query, top_k, effort)).hits

    async def answer(
        self,
        collection: str,
        query: str,
        top_k: int,
        effort: Effort = Effort.BALANCED,
        mode: SearchMode | None = None,
        *,
        where: str | None = None,
        with_metadata: bool = False,
    ) -> SearchResult:
        """`where`: a filter. `with_metadata`: hits have the metadata and tags of their documents."""
        body: dict[str, Any] = {"query": check_text(query, "the query"), "top_k": top_k, "effort": effort.value}
        if where is not None:
            body["filter"] = check_text(where, "the filter")
        if with_metadata:
            body["with_metadata"] = True
        if mode is not None:
            body["mode"] = mode.value
        return parse(SearchResult, await self._request("POST", collection_url(collection, "search"), json=body))

    async def page(self, document_id: str, page: int) -> PageView:
        """The text and the sizes of a page. `page` counts from 1."""
        return parse(PageView, await self._request("GET", _page_url(document_id, page)))

    async def page_image(self, document_id: str, page: int, width_px: int | None = None) -> PageImage:
        """The image of a page: as it is stored, or in one of the widths that the API makes."""
        params = {} if width_px is None else {"width": width_px}
        answer = await self._retry(self._answer, "GET", f"{_page_url(document_id, page)}/image", params=params)
        return PageImage(answer.content, answer.headers.get("content-type", ""))

    async def highlights(self, document_id: str, page: int, query: str) -> HighlightsView:
        """Where a query matches on a page."""
        params = {"query": check_text(query, "the query"), "format": "json"}
        return parse(
            HighlightsView, await self._request("GET", f"{_page_url(document_id, page)}/highlights", params=params)
        )

    async def highlights_picture(self, document_id: str, page: int, query: str, width_px: int = 640) -> bytes:
        """A PNG to lay over the page: the heat map where there is one, else the words that match.

        Raises ApiError where the page has neither.
        """
        params = {"query": check_text(query, "the query"), "format": "png", "width": width_px}
        return await self._request("GET", f"{_page_url(document_id, page)}/highlights", params=params)

    async def delete(self, document_id: str) -> None:
        """Returns when no store holds data of the document."""
        await self._request("DELETE", document_url(document_id))

    async def patch(
        self, document_id: str, *, metadata: Metadata | None = None, tags: Sequence[str] | None = None
    ) -> DocumentView:
        """Change metadata by a JSON merge patch, in which None removes a key, and replace the tags."""
        body: dict[str, Any] = {} if metadata is None else {"metadata": dict(metadata)}
        if tags is not None:
            body["tags"] = list(tags)
        return parse(DocumentView, await self._request("PATCH", document_url(document_id), json=body))

    async def delete_matching(self, collection: str, where: str, *, dry_run: bool = False) -> DeleteResult:
        """Delete up to 1,000 documents for which the filter holds. Call it again while some remain."""
        body = {"filter": check_text(where, "the filter"), "dry_run": dry_run}
        url = collection_url(collection, "documents/delete")
        return parse(DeleteResult, await self._request("POST", url, json=body))

    async def delete_collection(self, collection: str) -> None:
        """Returns when no store holds data of the collection. There may be none."""
        await self._request("DELETE", collection_url(collection, "").removesuffix("/"))

    async def _upload(self, url: str, path: Path, labels: UploadLabels | None, on_sent: OnSent | None) -> bytes:
        name = decoded_filename(os.fsencode(path.name))  # a form cannot hold a name that is not UTF-8
        with path.open("rb") as file:
            fields = {} if labels is None else labels.fields()
            content: Any = file if on_sent is None else CountedFile(file, on_sent)
            return await self._send("POST", url, data=fields, files={"files": (name, content, "application/pdf")})


@asynccontextmanager
async def connect(
    target: Target, *, on_response: ResponseHook | None = None, max_connections: int | None = None
) -> AsyncIterator[ApiClient]:
    """A client of one API. Makes no request. `on_response` sees each answer, those that are retried included."""
    async with open_http(target, on_response=on_response, max_connections=max_connections) as http:
        yield ApiClient(target, http)


def _page_url(document_id: str, page: int) -> str:
    return f"{document_url(document_id)}/pages/{page}"
