"""Watch the model of the service: refuse requests at once while it does not work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import structlog

from ingestion.errors import DeviceMemoryExhausted, IngestError, PermanentError, WorkerFault
from ingestion.model import Page, Vectors
from ingestion.ports import Embedder
from workers.embedding.sentence_embedder import SentenceEmbedder
from workers.embedding.serving.service_errors import ModelLost

log = structlog.get_logger(__name__)

ItemT = TypeVar("ItemT")

_RECENT_S: Final = 5.0
"""A result of the model is valid for so long. A lost model is tried again after so long."""
_PROBE: Final = "ready?"


class MonitoredModel:
    """An embedder whose failures are probed: if it fails and then cannot embed one word, the model is lost."""

    def __init__(self, embedder: Embedder, clock: Callable[[], float] = time.monotonic) -> None:
        self.embedder = embedder
        self._clock = clock
        self._lost: str | None = None
        self._checked_at_s = -_RECENT_S
        self._calls = 0
        self._probing = asyncio.Lock()
        self._lost_for_good: str | None = None

    async def embed_queries(self, texts: Sequence[str]) -> list[Vectors]:
        """Raises IngestError. Raises ModelLost at once while the model is known to be lost."""
        return await self._watched(self.embedder.embed_queries, texts)

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """Raises the errors of `embed_queries`."""
        return await self._watched(self.embedder.embed_pages, pages)

    def mark_lost(self, cause: str) -> None:
        """Mark the model lost for the rest of the process: every later call raises ModelLost at once."""
        self._lost_for_good = cause
        self._record(cause)

    async def embed_sentences(self, texts: Sequence[str], *, urgent: bool) -> list[Vectors]:
        """Only for a SentenceEmbedder. Raises the errors of `embed_queries`."""
        assert isinstance(self.embedder, SentenceEmbedder)
        return await self._watched(partial(self.embedder.embed_sentences, urgent=urgent), texts)

    @property
    def sentence_tokens(self) -> int | None:
        """Tokens of a text that the published pooling reads; None for a model without published pooling."""
        return self.embedder.sentence_tokens if isinstance(self.embedder, SentenceEmbedder) else None

    async def check(self) -> None:
        """Raises ModelLost. Embeds one word unless work is in progress or a result is recent."""
        self._raise_if_lost_for_good()
        now = self._clock()
        if self._lost is not None or not self._calls:
            await self._probe_unless_checked_since(now - _RECENT_S)
        self._raise_if_lost()

    async def _watched(
        self, embed: Callable[[Sequence[ItemT]], Awaitable[list[Vectors]]], items: Sequence[ItemT]
    ) -> list[Vectors]:
        self._raise_if_lost_for_good()
        if self._clock() - self._checked_at_s < _RECENT_S:
            self._raise_if_lost()
        self._calls += 1
        started = self._clock()
        try:
            vectors = await embed(items)
        except (PermanentError, DeviceMemoryExhausted):
            raise  # caused by the input, not by a broken model
        except Exception as error:
            if self._lost is None:
                log.exception("embedding failed")
            # Calls that fail together share one probe and its log line.
            await self._probe_unless_checked_since(self._clock() if self._lost is None else started)
            self._raise_if_lost()
            if isinstance(error, IngestError):
                raise
            raise WorkerFault(f"{type(error).__name__}: {error}", stage="embed") from error
        finally:
            self._calls -= 1
        self._record(None)
        return vectors

    async def _probe_unless_checked_since(self, time_s: float) -> None:
        async with self._probing:
            if self._checked_at_s >= time_s:
                return
            try:
                await self.embedder.embed_queries([_PROBE])
            except Exception as error:  # noqa: BLE001 - raised as ModelLost
                self._record(f"{type(error).__name__}: {error}")
            else:
                self._record(None)

    def _record(self, lost: str | None) -> None:
        if lost and not self._lost:
            log.error("model lost", cause=lost)
        elif self._lost and not lost:
            log.info("model works again")
        self._lost = lost
        self._checked_at_s = self._clock()

    def _raise_if_lost_for_good(self) -> None:
        if self._lost_for_good is not None:
            raise ModelLost(self._lost_for_good)

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise ModelLost(self._lost)
