"""The pool of children: at most so many at a time, each for one file, reused for more calls on that file."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from anyio import CapacityLimiter

from ingestion.errors import WorkerFault
from ingestion.sandbox.child import programs_cpu_s
from ingestion.sandbox.client import LauncherClient
from ingestion.sandbox.confine import Protections
from ingestion.sandbox.failures import ChildCrashed, clean, error_of
from ingestion.sandbox.functions import function_path, main_module_file
from ingestion.sandbox.plain import NotPlain, argument_kinds, from_plain, signature, to_plain
from ingestion.sandbox.process import CallLimits, Child, InputFile
from ingestion.sandbox.programs import Program

log = structlog.get_logger(__name__)

T = TypeVar("T")

_START_TIMEOUT_S: Final = 120.0
"""The launcher imports what children need, which takes seconds on a busy machine."""

WALL_FACTOR: Final = 10.0
"""The default wall-clock limit is this many times the CPU time: a busy machine may be so much slower."""

_CALLS_OF_A_CHILD: Final = 10
"""A child's CPU time in all is this many times that of its first call. A child with too little left is replaced."""

_ANSWER_BYTES: Final = 1024**2


class Sandbox:
    """At most `processes` children at a time, each with `memory_bytes` of address space.

    `log_protections`: log which protections confine the children, once, when the first one starts.
    """

    def __init__(self, *, processes: int, memory_bytes: int, log_protections: bool = True) -> None:
        self._processes = processes
        self._limiter = CapacityLimiter(processes)
        self._memory_bytes = memory_bytes
        self._busy = 0
        self._idle: list[Child] = []
        self._ending: set[asyncio.Task[Any]] = set()
        self._launcher: LauncherClient | None = None
        self._close: Callable[[], Any] = _nothing
        self._has_logged_protections = not log_protections

    async def run(
        self,
        function: Callable[..., T],
        *args: Any,
        timeout_s: float,
        wall_s: float | None = None,
        file: str | Path | None = None,
        answer_bytes: int = _ANSWER_BYTES,
        programs: Mapping[str, Program] | None = None,
        keep: bool = True,
    ) -> T:
        """Call `function(*args)` in a child. The function is one of a module; arguments and result are plain data.

        `timeout_s` limits the CPU time, `wall_s` the wall clock (default: WALL_FACTOR times the CPU time). Waiting for
        a child does not count. `file` is the only file that the function may read, `answer_bytes` the largest result,
        `programs` what it may have its parent run. `keep`: more calls for this file will come.

        Raises what the function raises of `failures.CROSSING`; ChildTimeout; ChildStalled, where the machine is too
        busy; ChildCrashed; NotPlain for arguments; WorkerFault where no child can be started.
        """
        limits = CallLimits(timeout_s, wall_s or WALL_FACTOR * timeout_s, answer_bytes, programs or {})
        input_file = InputFile.at(file)
        blobs: list[bytes] = []
        request = _request(function, args, blobs)
        async with self._limiter:
            self._busy += 1
            try:
                child = await self._child(function, input_file, timeout_s)
                is_sound = False
                try:
                    message, answer = await child.call(request, blobs, limits, function.__name__)
                    result = _result(function, message, answer)
                    is_sound = True
                finally:
                    self._release(child, keep=keep and is_sound)
            finally:
                self._busy -= 1
        if isinstance(result, _Raised):
            raise result.error
        value: T = result
        return value

    async def start(self, function: Callable[..., Any] = programs_cpu_s) -> Protections:
        """Start the launcher and prepare it for calls of `function`. Returns what holds a child. Raises WorkerFault.

        A child that is kept for a file can run only functions that were prepared before it was started: prepare the
        later calls for a file before the first one, or they need a second child.
        """
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                launcher = self._launcher_here()
                module, name = function_path(function)
                protections = await launcher.prepare(module, name, main_module_file(module))
        except TimeoutError as error:
            raise WorkerFault(f"no child process could be started within {_START_TIMEOUT_S:g} s") from error
        self._log_protections_once(protections)
        return protections

    def close(self) -> None:
        """Kill the launcher and all children. A later call starts them again."""
        self._close()
        self._idle.clear()
        self._launcher = None

    def _launcher_here(self) -> LauncherClient:
        """The launcher of the running event loop, started where there is none. Raises WorkerFault."""
        launcher = self._launcher
        if launcher is not None and launcher.loop is asyncio.get_running_loop() and launcher.is_alive():
            return launcher
        self._close()
        self._idle.clear()
        try:
            self._launcher = LauncherClient()
        except OSError as error:
            raise WorkerFault(f"no child process could be started: {error}") from error
        self._close = weakref.finalize(self, self._launcher.close)
        return self._launcher

    async def _child(self, function: Callable[..., Any], file: InputFile, cpu_s: float) -> Child:
        """Raises WorkerFault."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                launcher = self._launcher_here()
                module, name = function_path(function)
                self._log_protections_once(await launcher.prepare(module, name, main_module_file(module)))
                if (kept := await self._take_idle(file, module, cpu_s)) is not None:
                    return kept
                while self._idle and len(self._idle) + self._busy > self._processes:
                    await self._idle.pop(0).end()
                life_s = _CALLS_OF_A_CHILD * ceil(cpu_s)
                return await Child.start(launcher, file, memory_bytes=self._memory_bytes, cpu_s=life_s)
        except TimeoutError as error:
            raise WorkerFault(f"no child process could be started within {_START_TIMEOUT_S:g} s") from error

    async def _take_idle(self, file: InputFile, module: str, cpu_s: float) -> Child | None:
        """A child that has `file` and was forked after its launcher had imported `module`.

        A child cannot import by itself: Landlock hides all folders but those of installed packages.
        """
        # Looked up anew after each wait: another call may take or end a child meanwhile.
        while child := next((one for one in reversed(self._idle) if one.file == file), None):
            self._idle.remove(child)
            if module in child.modules and child.is_silent() and await child.cpu_s() + cpu_s <= child.limits.cpu_s:
                return child
            await child.end()
        return None

    def _release(self, child: Child, *, keep: bool) -> None:
        if keep:
            self._idle.append(child)
            return
        task = asyncio.create_task(child.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _log_protections_once(self, protections: Protections) -> None:
        if self._has_logged_protections:
            return
        self._has_logged_protections = True
        if missing := protections.missing():
            log.warning("children that read PDFs are confined in part", missing=missing)
        else:
            log.info("children that read PDFs are confined", landlock=protections.landlock)


def _nothing() -> None:
    """Stands in for `LauncherClient.close` before there is a launcher."""


class _Raised:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _request(function: Callable[..., Any], args: tuple[Any, ...], blobs: list[bytes]) -> dict[str, Any]:
    module, name = function_path(function)
    kinds = argument_kinds(function, len(args))
    arguments = [to_plain(value, kind, blobs) for value, kind in zip(args, kinds, strict=True)]
    return {"module": module, "name": name, "arguments": arguments}


def _result(function: Callable[..., Any], message: dict[str, Any], blobs: list[bytes]) -> Any:
    """Return the result of the function, or the error that it raised as _Raised. Raises ChildCrashed."""
    name = function.__name__
    try:
        if message.keys() == {"kind", "value"} and message["kind"] == "answer":
            return from_plain(message["value"], signature(function)[1], blobs)
        if message.keys() == {"kind", "code", "message"} and message["kind"] == "error" and not blobs:
            error = error_of(str(message["code"]), clean(str(message["message"])), name)
            if isinstance(error, ChildCrashed):
                raise error
            return _Raised(error)
    except NotPlain as error:
        raise ChildCrashed(f"the process running {name} answered with other data than declared: {error}") from error
    raise ChildCrashed(f"the process running {name} violated the protocol")
