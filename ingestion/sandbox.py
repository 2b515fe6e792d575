"""Run a function on hostile input in a child process that can be killed and cannot eat the machine.

The children come from anyio's worker-process pool: they are reused, killed on timeout, and replaced when they die.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter, to_process

from ingestion.errors import WorkerFault

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_START_TIMEOUT_S = 120.0
"""A child imports this program first, which takes seconds, and many of them on a machine that has too much to do."""


class ChildTimeout(Exception):
    """The function did not return in time; its process was killed."""


class ChildCrashed(Exception):
    """The process died, or ran out of the memory it was allowed."""


class Sandbox:
    """At most `processes` children side by side, each with `memory_bytes` of address space."""

    def __init__(self, *, processes: int, memory_bytes: int) -> None:
        self._limiter = CapacityLimiter(processes)
        self._memory_bytes = memory_bytes

    async def run(self, function: Callable[..., T], *args: Any, timeout_s: float) -> T:
        """Call `function(*args)` in a child; both must be picklable. Waiting for a child to be there is not counted.

        Raises what the function raises, ChildTimeout, ChildCrashed, or WorkerFault where no child can be started.
        """
        async with self._limiter:
            await _start_child()
            try:
                with anyio.fail_after(timeout_s):
                    return await _in_child(_confined, self._memory_bytes, function, *args)
            except TimeoutError as error:
                raise ChildTimeout(f"{function.__name__} took longer than {timeout_s:g} s") from error
            except anyio.BrokenWorkerProcess as error:
                raise ChildCrashed(f"the process running {function.__name__} died") from error
            except MemoryError as error:
                raise ChildCrashed(f"{function.__name__} needs more than {self._memory_bytes} bytes") from error


async def _start_child() -> None:
    """Leave an idle child in the pool, which the next call takes."""
    try:
        with anyio.fail_after(_START_TIMEOUT_S):
            while not await _answers():
                pass  # the next one
    except TimeoutError as error:
        raise WorkerFault(f"no child process could be started within {_START_TIMEOUT_S:g} s") from error


async def _answers() -> bool:
    try:
        await _in_child(_nothing)
    except anyio.BrokenWorkerProcess:  # it had died while it was idle, and is out of the pool now
        return False
    return True


async def _in_child(function: Callable[..., T], *args: Any) -> T:
    return await to_process.run_sync(function, *args, cancellable=True, limiter=CapacityLimiter(1))


def _nothing() -> None:
    pass


def _confined(memory_bytes: int, function: Callable[..., T], *args: Any) -> T:
    """In the child: die with the parent, respect the memory limit, leave no core file."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The soft limit alone: children are reused, and the next function may be allowed more.
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return function(*args)
