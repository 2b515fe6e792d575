"""Renews a hold while work of unknown length runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, NoReturn, TypeVar

import structlog

from ingestion.catalogue.holds import Hold
from ingestion.errors import RetryableError

T = TypeVar("T")
log = structlog.get_logger(__name__)

_BEATS_PER_LEASE: Final = 3


async def while_held(hold: Hold, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` and renew the hold meanwhile. Cancels `work` and raises LeaseLost where the hold is lost.

    A database that does not answer does not end the work: no other process can take the hold without it.
    """
    working, beating = asyncio.ensure_future(work), asyncio.create_task(_beat(hold))
    try:
        await asyncio.wait((working, beating), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else beating.result()
    finally:
        working.cancel()
        beating.cancel()
        await asyncio.gather(working, beating, return_exceptions=True)


async def _beat(hold: Hold) -> NoReturn:
    while True:
        await asyncio.sleep(hold.lease_s / _BEATS_PER_LEASE)
        try:
            await hold.renew()
        except RetryableError as error:
            log.warning("hold not renewed", collection=hold.name, cause=error.message)
