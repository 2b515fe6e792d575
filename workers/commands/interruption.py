"""Commands that clean up when they are interrupted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_until_signal(work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` to its end, or cancel it at SIGINT, SIGTERM or SIGHUP. Return True where a signal came.

    Raises what `work` raises. After the first signal the handlers are those of before: a second one ends the command.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    is_interrupted = False

    def interrupt() -> None:
        nonlocal is_interrupted
        is_interrupted = True
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt)
    try:
        await task
    except asyncio.CancelledError:
        if not is_interrupted:
            raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        if not task.done():
            task.cancel()
    return is_interrupted
