"""What the items of the checklist work with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from ingestion.bootstrap import Services
from ingestion.client.client import ApiClient
from ingestion.client.following import follow
from ingestion.client.target import Target
from ingestion.client.views import DocumentView
from ingestion.errors import IngestError
from workers.bench.sample_pdf import sample_pdf
from workers.validation.scratch import ScratchInstallation

_SETTLED_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the load item. `pages_per_s` is the least, the others are the most."""

    files: int = 10
    pages: int = 50
    pages_per_s: float = 0.5
    lag: float = 1000.0
    memory_bytes: int = 4 * 1024**3
    recall: float = 0.95
    load_s: float = 1800.0


@dataclass(slots=True)
class Context:
    """`services` are the stores themselves; None where they cannot be reached, for the reason in `no_services`.

    `collection` belongs to this run, which deletes it. `subjects` are the subjects of the pages in it, by document id.
    """

    api: ApiClient
    target: Target
    http: httpx.AsyncClient
    collection: str
    folder: Path
    limits: Limits
    services: Services | None
    no_services: str
    read_stack: Callable[[], Mapping[str, Any] | None]
    data_dir: Path
    metrics: Sequence[str] = ()
    prometheus: str | None = None
    grafana: str | None = None
    alerts: Path | None = None
    is_destructive: bool = False
    exits: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Closed at the end of the run, before the collection is deleted."""
    scratch: ScratchInstallation | IngestError | None = None
    """The scratch installation of this run, or why it did not start."""
    subjects: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def may_break(self) -> bool:
        """True where an item may end processes and cut servers off: on a local stack, or where the user allows it."""
        return self.target.is_local or self.is_destructive

    async def ingest(self, name: str, pages: int) -> DocumentView:
        """Upload a PDF of its own and wait until it is settled. Raises ApiError, ApiUnavailable, TimeoutError."""
        made = sample_pdf(f"{self.collection}/{name}", pages)
        path = self.folder / f"{name}.pdf"
        await asyncio.to_thread(path.write_bytes, made.content)
        view = await self.api.upload(self.collection, path)
        view = await settled(self.api, view)
        self.subjects[view.document_id] = made.subjects
        return view


async def settled(api: ApiClient, view: DocumentView, timeout_s: float = _SETTLED_S) -> DocumentView:
    """Follow a document to its end. Raises TimeoutError after `timeout_s`, ApiError, ApiUnavailable."""
    async with asyncio.timeout(timeout_s), aclosing(follow(api, view.document_id)) as views:
        async for current in views:
            view = current
    return view
