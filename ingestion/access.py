"""Check at the start of a process that no server refuses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ingestion.bootstrap import Services
from ingestion.errors import DependencyRefused, IngestError, InvalidSetting

log = structlog.get_logger(__name__)

_ANSWER_S: Final = 5.0


async def check_access(services: Services) -> None:
    """Ping all servers at once, for some seconds at most.

    Raises DependencyRefused if a server refuses a login, a certificate or a right, and InvalidSetting. These do not
    end by waiting. A server that is down or silent is no error here: the process waits for it later.
    """
    pings = (
        services.queue.ping,
        services.documents.ping,
        services.blobs.ping,
        services.vectors.ping,
        services.progress.ping,
    )
    found = [error for error in await asyncio.gather(*map(_refusal, pings)) if error is not None]
    for error in found:
        log.error("this process cannot start", code=error.code, cause=error.message)
    if found:
        raise found[0]


async def _refusal(ping: Callable[[], Awaitable[None]]) -> DependencyRefused | InvalidSetting | None:
    try:
        async with asyncio.timeout(_ANSWER_S):
            await ping()
    except (DependencyRefused, InvalidSetting) as error:
        return error
    except (IngestError, TimeoutError):
        pass
    return None
