"""`AsyncPagemill` and `Pagemill`: the Python client of the HTTP API, asynchronous and not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ingestion.client.administration_views import (
    CancelResult,
    DeadLetter,
    DeadLetterReport,
    DeadLetterResult,
    KeyView,
    NewKey,
    NewWebhook,
    SystemView,
    WebhookDelivery,
    WebhookView,
)
from ingestion.client.answers import ApiUnavailable
from ingestion.client.client import ApiClient
from ingestion.client.following import follow
from ingestion.client.requests import open_http
from ingestion.client.target import Target
from ingestion.client.views import DocumentView, HighlightsView, PageImage, PageView, UploadLabels
from ingestion.effort import Effort
from ingestion.hits import Hit
from ingestion.role import Role
from ingestion.settings import ApiSettings

T = TypeVar("T")

Progress = Callable[[DocumentView], None]
_REMEDY: Final = "check the address"


class AsyncPagemill(ApiClient):
    """A client of one API, to be used as an asynchronous context manager. Opening it makes no request.

    Requests are repeated as ApiClient says. Errors are ApiError with the codes of docs/error-codes.md, ApiUnavailable
    where the API does not answer, and BadRequest for arguments that cannot be sent.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        """Without arguments: the address and the key of PAGEMILL_API_URL and PAGEMILL_API_KEY. Raises BadRequest."""
        settings = ApiSettings()
        key = settings.api_key.get_secret_value() if api_key is None else api_key
        target = Target(settings.api_url if url is None else url, key, _REMEDY, is_local=False)
        super().__init__(target, open_http(target))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def wait(
        self, document_id: str, *, timeout_s: float | None = None, on_progress: Progress | None = None
    ) -> DocumentView:
        """The document once it is settled: ready, failed, cancelled, archived or deleted.

        It follows the document's events. `on_progress` gets the document at each change. Raises TimeoutError after
        `timeout_s`, ApiError where the document is deleted meanwhile.
        """
        with anyio.fail_after(timeout_s):
            async with aclosing(follow(self, document_id)) as views:
                async for view in views:
                    if on_progress is not None:
                        on_progress(view)
                    if view.state.is_settled:
                        return view
        raise ApiUnavailable(f"the events of document {document_id} ended before it was settled")


class Pagemill:
    """AsyncPagemill for code without an event loop, to be used as a context manager. Its methods block.

    One instance may be used by several threads.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        """As AsyncPagemill."""
        self._url, self._api_key = url, api_key
        self._stack = ExitStack()
        self._portal: BlockingPortal
        self._api: AsyncPagemill

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._api = stack.enter_context(self._opened())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _opened(self) -> AbstractContextManager[AsyncPagemill]:
        return self._portal.wrap_async_context_manager(_opened(self._url, self._api_key))

    def check(self) -> None:
        """Raises ApiUnavailable, or ApiError where the API does not accept the key."""
        self._portal.call(self._api.check)

    def upload(
        self,
        collection: str,
        path: Path,
        labels: UploadLabels | None = None,
        *,
        on_sent: Callable[[int, int], None] | None = None,
    ) -> DocumentView:
        """As AsyncPagemill.upload."""
        return self._portal.call(partial(self._api.upload, on_sent=on_sent), collection, path, labels)

    def wait(
        self, document_id: str, *, timeout_s: float | None = None, on_progress: Progress | None = None
    ) -> DocumentView:
        """As AsyncPagemill.wait."""
        return self._portal.call(partial(self._api.wait, timeout_s=timeout_s, on_progress=on_progress), document_id)

    def document(self, document_id: str) -> DocumentView:
        return self._portal.call(self._api.document, document_id)

    def documents(self, collection: str | None = None, where: str | None = None) -> Iterator[DocumentView]:
        """All documents, or those of one collection. Pages of the listing are requested as needed."""
        yield from self._each(self._api.documents(collection, where))

    def search(self, collection: str, query: str, top_k: int = 10, effort: Effort = Effort.BALANCED) -> list[Hit]:
        """The pages that match best, best first."""
        return self._portal.call(self._api.search, collection, query, top_k, effort)

    def page(self, document_id: str, page: int) -> PageView:
        return self._portal.call(self._api.page, document_id, page)

    def page_image(self, document_id: str, page: int, width_px: int | None = None) -> PageImage:
        return self._portal.call(self._api.page_image, document_id, page, width_px)

    def highlights(self, document_id: str, page: int, query: str) -> HighlightsView:
        return self._portal.call(self._api.highlights, document_id, page, query)

    def delete(self, document_id: str) -> None:
        """Returns when no store holds data of the document."""
        self._portal.call(self._api.delete, document_id)

    def delete_collection(self, collection: str) -> None:
        self._portal.call(self._api.delete_collection, collection)

    def cancel(self, document_id: str) -> DocumentView:
        """As AsyncPagemill.cancel."""
        return self._portal.call(self._api.cancel, document_id)

    def cancel_collection(self, collection: str, where: str | None = None) -> CancelResult:
        """As AsyncPagemill.cancel_collection."""
        return self._portal.call(self._api.cancel_collection, collection, where)

    def dead_letters(self, collection: str | None = None, state: str = "open") -> Iterator[DeadLetter]:
        """Dead letters, newest first. Pages of the listing are requested as needed."""
        yield from self._each(self._api.dead_letters(collection, state))

    def dead_letter(self, letter: str) -> DeadLetterReport:
        return self._portal.call(self._api.dead_letter, letter)

    def replay_dead_letter(self, letter: str, why: str = "") -> DeadLetterResult:
        """As AsyncPagemill.replay_dead_letter."""
        return self._portal.call(self._api.replay_dead_letter, letter, why)

    def discard_dead_letter(self, letter: str, why: str = "") -> DeadLetterResult:
        """As AsyncPagemill.discard_dead_letter."""
        return self._portal.call(self._api.discard_dead_letter, letter, why)

    def system(self, minutes: int = 15) -> SystemView:
        """As AsyncPagemill.system."""
        return self._portal.call(self._api.system, minutes)

    def keys(self, tenant: str | None = None) -> list[KeyView]:
        """As AsyncPagemill.keys."""
        return self._portal.call(self._api.keys, tenant)

    def create_key(
        self, role: Role = Role.READ, *, name: str = "", tenant: str | None = None, expires_at: datetime | None = None
    ) -> NewKey:
        """As AsyncPagemill.create_key."""
        create = partial(self._api.create_key, name=name, tenant=tenant, expires_at=expires_at)
        return self._portal.call(create, role)

    def revoke_key(self, key: str) -> None:
        """As AsyncPagemill.revoke_key."""
        self._portal.call(self._api.revoke_key, key)

    def webhooks(self) -> list[WebhookView]:
        """As AsyncPagemill.webhooks."""
        return self._portal.call(self._api.webhooks)

    def create_webhook(self, url: str, events: Sequence[str] = (), *, collection: str | None = None) -> NewWebhook:
        """As AsyncPagemill.create_webhook."""
        return self._portal.call(partial(self._api.create_webhook, collection=collection), url, events)

    def delete_webhook(self, webhook: str) -> None:
        """As AsyncPagemill.delete_webhook."""
        self._portal.call(self._api.delete_webhook, webhook)

    def ping_webhook(self, webhook: str) -> WebhookDelivery:
        """As AsyncPagemill.ping_webhook."""
        return self._portal.call(self._api.ping_webhook, webhook)

    def webhook_deliveries(self, webhook: str, state: str = "dead") -> Iterator[WebhookDelivery]:
        """As AsyncPagemill.webhook_deliveries."""
        yield from self._each(self._api.webhook_deliveries(webhook, state))

    def replay_webhook_delivery(self, webhook: str, delivery: str) -> bool:
        """As AsyncPagemill.replay_webhook_delivery."""
        return self._portal.call(self._api.replay_webhook_delivery, webhook, delivery)

    def _each(self, listing: AsyncIterator[T]) -> Iterator[T]:
        while (found := self._portal.call(anext, listing, None)) is not None:
            yield found


@asynccontextmanager
async def _opened(url: str | None, api_key: str | None) -> AsyncIterator[AsyncPagemill]:
    async with AsyncPagemill(url, api_key) as api:
        yield api
