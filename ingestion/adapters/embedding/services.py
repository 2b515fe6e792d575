"""The embedding services that queries are embedded by, each with a model of its own.

While a collection passes from one model to another there are two: an operator starts the new service beside the old,
adds its address, re-embeds, and takes the old address away once no collection needs it any more.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ingestion.adapters.embedding.http import RemoteEmbedder
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import DependencyUnavailable, EmbedderMismatch
from ingestion.ports import Embedder
from ingestion.settings import EmbedderSettings


class EmbeddersByFingerprint:
    """EmbedderChoice over the services at `embedder_urls`. Asks a service for its model when it is needed."""

    def __init__(self, settings: EmbedderSettings) -> None:
        self._services = [
            RemoteEmbedder(settings.model_copy(update={"embedder_url": url})) for url in settings.embedder_urls
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in self._services:
            await service.__aexit__(kind, error, trace)

    async def for_fingerprint(self, fingerprint: str) -> Embedder:
        known = self._known(fingerprint)
        if known is not None:
            return known
        outages = [outage for outage in await gather_or_cancel(*map(_asked, self._services)) if outage is not None]
        found = self._known(fingerprint)
        if found is not None:
            return found
        if outages:
            raise outages[0]
        served = " and ".join(repr(service.fingerprint) for service in self._services)
        raise EmbedderMismatch(
            f"the collection holds vectors of {fingerprint!r}, but queries are embedded with {served}"
        )

    def _known(self, fingerprint: str) -> Embedder | None:
        return next((service for service in self._services if service.fingerprint == fingerprint), None)


async def _asked(service: RemoteEmbedder) -> DependencyUnavailable | None:
    """Ask the service for its present model. Returns the outage where it does not answer."""
    try:
        await service.refresh()
    except DependencyUnavailable as outage:
        return outage
    return None
