"""Which input an embedding service fails on, where it fails on one and works for others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from ingestion.errors import DependencyUnavailable, IngestError, PageNotEmbedded, WorkerFault
from ingestion.model import Vectors

log = structlog.get_logger(__name__)


class NotTheInput(DependencyUnavailable):
    """The service cannot do its work, whatever the input: overload, or another model than before."""


@dataclass(frozen=True, slots=True)
class PageInput:
    """What is sent for one page."""

    page_number: int
    content: str


async def embed_isolating(
    embed: Callable[[Sequence[PageInput]], Awaitable[list[Vectors]]],
    inputs: Sequence[PageInput],
    probe: Callable[[], Awaitable[None]],
) -> list[Vectors]:
    """`embed(inputs)`; where that fails and `probe` does not, the inputs again in ever smaller parts.

    A request of many pages may fail because it is large; in parts it goes through. Raises PageNotEmbedded with the
    page on which the service fails although it is sent alone, and the error of `embed` where `probe` fails as well.
    """
    try:
        return await embed(inputs)
    except NotTheInput:
        raise
    except (DependencyUnavailable, WorkerFault) as error:
        cause = error
    if not await _passes(probe):
        raise cause
    if len(inputs) == 1:
        raise PageNotEmbedded(
            f"the embedding service fails on page {inputs[0].page_number} alone, and works otherwise: {cause.message}",
            stage="embed",
        ) from cause
    numbers = [one.page_number for one in inputs]
    log.warning("pages are embedded in smaller parts", first=numbers[0], last=numbers[-1], cause=cause.message)
    middle = len(inputs) // 2
    parts = [await embed_isolating(embed, part, probe) for part in (inputs[:middle], inputs[middle:])]
    return [vectors for part in parts for vectors in part]


async def _passes(probe: Callable[[], Awaitable[None]]) -> bool:
    try:
        await probe()
    except IngestError as error:
        log.debug("probe failed", cause=error.message)
        return False
    return True
