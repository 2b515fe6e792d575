"""One child, as its parent sees it: calls, answers, and the limit of its CPU time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final, NoReturn

from ingestion.errors import ChildStalled, WorkerFault
from ingestion.sandbox.client import LauncherClient, read_stderr, receive_async, send_async
from ingestion.sandbox.confine import ProcessLimits
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout, clean
from ingestion.sandbox.frames import BadFrame
from ingestion.sandbox.programs import Program

_STDERR_BYTES: Final = 4096
_SHORTEST_WAIT_S: Final = 0.02
_MAX_PROGRAMS: Final = 1000
"""Started for one call."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A child's file, as it was when the child started. A file that replaced it under its name is another file."""

    path: str
    identity: tuple[int, ...] = ()

    @classmethod
    def at(cls, path: str | Path | None) -> InputFile:
        """`path` None stands for no file."""
        if path is None:
            return cls("")
        real = os.path.realpath(path)
        try:
            status = os.stat(real)  # noqa: PTH116 - the path as the kernel gets it
        except OSError:  # the function will raise for it
            return cls(real)
        return cls(real, (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of one call. CPU time is that of the child and of the programs that run for it."""

    cpu_s: float
    wall_s: float
    answer_bytes: int
    programs: Mapping[str, Program] = field(default_factory=dict)


class Child:
    """A process for one file. After an error of `call` it cannot be used again."""

    def __init__(
        self,
        launcher: LauncherClient,
        file: InputFile,
        limits: ProcessLimits,
        modules: frozenset[str],
        pid: int,
        calls: socket.socket,
        stderr: _Descriptor,
    ) -> None:
        self.file = file
        self.limits = limits
        self.modules = modules
        self.pid = pid
        self._launcher = launcher
        self._calls = calls
        self._stderr = stderr
        self._number = 0
        self._program: int | None = None
        self._programs = 0
        self._programs_cpu_s = 0.0
        self._is_ended = False
        self._is_reaped = False

    @classmethod
    async def start(cls, launcher: LauncherClient, file: InputFile, *, memory_bytes: int, cpu_s: int) -> Child:
        """`cpu_s` is for its life. Raises WorkerFault."""
        limits, modules = ProcessLimits(memory_bytes, cpu_s, file.path), launcher.modules()
        calls, theirs = socket.socketpair()
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)  # a child that writes too much loses output, and does not block
        stderr = _Descriptor(read)
        launcher.own(calls)
        launcher.own(stderr)
        try:
            with theirs:
                pid = await launcher.start_child(limits, theirs.fileno(), write)
        except BaseException:
            launcher.release(calls)
            launcher.release(stderr)
            raise
        finally:
            os.close(write)
        calls.setblocking(False)
        child = cls(launcher, file, limits, modules, pid, calls, stderr)
        try:
            await receive_async(calls, max_body_bytes=0)
        except (EOFError, OSError, BadFrame) as error:
            said = clean(child._stderr_text())
            await child.end()
            raise WorkerFault(f"no child process could be started: {said}") from error
        except BaseException:
            await asyncio.shield(child.end())
            raise
        return child

    async def cpu_s(self) -> float:
        """CPU seconds since its start, with those of its programs."""
        running = [self.pid] if self._program is None else [self.pid, self._program]
        return self._programs_cpu_s + sum([await self._launcher.usage(pid) for pid in running])

    def is_silent(self) -> bool:
        """False where the child has died, or has sent something without a request."""
        try:
            self._calls.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def call(self, request: dict[str, Any], blobs: list[bytes], budget: CallLimits, name: str) -> Any:
        """Waits for the answer: message and blobs. `name` is the function's name in error texts.

        Raises ChildTimeout, ChildStalled, ChildCrashed.
        """
        began_s = await self.cpu_s() if self._number else 0.0
        self._programs = 0
        self._number += 1
        talk = asyncio.create_task(self._talk(request, blobs, budget))
        try:
            await self._watch(talk, budget, began_s, name)
            return talk.result()
        except (EOFError, OSError) as error:
            await self._explain(began_s, budget, name, error)
        except BadFrame as error:
            raise ChildCrashed(f"the process running {name} violated the protocol: {error}") from error
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)

    async def end(self) -> None:
        """Kill the child, and the program that runs for it. A second call does nothing."""
        if self._is_ended:
            return
        self._is_ended = True
        self._launcher.release(self._calls)
        self._launcher.release(self._stderr)
        with suppress(WorkerFault):  # the launcher is dead, and so are its children
            if self._program is not None:
                await self._launcher.drop(self._program)
            if not self._is_reaped:
                await self._launcher.drop(self.pid)

    async def _watch(self, talk: asyncio.Task[Any], budget: CallLimits, began_s: float, name: str) -> None:
        """Wait until `talk` is done. One thread uses at most as much CPU time as passes."""
        loop = asyncio.get_running_loop()
        end, left_s = loop.time() + budget.wall_s, budget.cpu_s
        while True:
            wall_s = max(0.0, end - loop.time())
            done, _ = await asyncio.wait({talk}, timeout=min(wall_s, max(left_s / 2, _SHORTEST_WAIT_S)))
            if done:
                return
            left_s = budget.cpu_s - (await self.cpu_s() - began_s)
            if left_s <= 0:
                raise ChildTimeout(f"{name} took longer than {budget.cpu_s:g} s of CPU time")
            if loop.time() >= end:
                raise ChildStalled(
                    f"{name} was not done within {budget.wall_s:g} s, of which it had "
                    f"{budget.cpu_s - left_s:.1f} s of CPU time: this machine has too much to do"
                )

    async def _talk(self, request: dict[str, Any], blobs: list[bytes], budget: CallLimits) -> tuple[Any, list[bytes]]:
        await send_async(self._calls, request | {"call": self._number}, blobs)
        while True:
            message, answer = await receive_async(self._calls, max_body_bytes=budget.answer_bytes)
            kind = message.pop("kind", None)
            if kind == "program" and message.keys() == {"name", "arguments"}:
                await self._start_program(message["name"], message["arguments"], budget)
            elif kind == "ended" and not message:
                await self._end_program()
            elif kind in ("answer", "error") and message.pop("call", None) == self._number:
                return {"kind": kind, **message}, answer
            else:
                raise BadFrame("a message of no known kind, or the answer to another call")

    async def _start_program(self, name: Any, arguments: Any, budget: CallLimits) -> None:
        if type(arguments) is not list or not all(type(one) is str and "\0" not in one for one in arguments):
            raise BadFrame("arguments that are not text")
        program = budget.programs.get(name) if type(name) is str else None
        self._programs += 1
        if self._program is not None or self._programs > _MAX_PROGRAMS:
            raise BadFrame("too many programs")
        if program is None or not program.allows(arguments):
            await send_async(self._calls, {"kind": "refused"})
            return
        limits = ProcessLimits(self.limits.memory_bytes, ceil(budget.cpu_s) + 1, self.limits.file)
        pipes = [os.pipe(), os.pipe()]
        try:
            writes = [write for _, write in pipes]
            self._program = await self._launcher.start_program(program.path, arguments, limits, *writes)
            await send_async(self._calls, {"kind": "started"}, fds=[read for read, _ in pipes])
        finally:
            for descriptor in (one for pipe in pipes for one in pipe):
                os.close(descriptor)

    async def _end_program(self) -> None:
        if self._program is None:
            raise BadFrame("no program runs")
        program, self._program = self._program, None
        cpu_s, _ = await self._launcher.end(program)
        self._programs_cpu_s += cpu_s
        await send_async(self._calls, {"kind": "ended", "cpu_s": cpu_s})

    async def _explain(self, began_s: float, budget: CallLimits, name: str, cause: BaseException) -> NoReturn:
        said = clean(self._stderr_text())
        used_s = await self.cpu_s() - began_s
        self._is_reaped = True  # from now on the pid may belong to another process
        _, status = await self._launcher.end(self.pid)
        if used_s >= budget.cpu_s or status == -signal.SIGXCPU:
            raise ChildTimeout(f"{name} took longer than {budget.cpu_s:g} s of CPU time") from cause
        how = f"of {signal.Signals(-status).name}" if status is not None and status < 0 else f"with status {status}"
        raise ChildCrashed(f"the process running {name} died {how}{': ' if said else ''}{said}") from cause

    def _stderr_text(self) -> str:
        return read_stderr(self._stderr.number, _STDERR_BYTES)


@dataclass(eq=False, slots=True)
class _Descriptor:
    """A file descriptor with the `close` of a file."""

    number: int

    def close(self) -> None:
        if self.number >= 0:
            os.close(self.number)
            self.number = -1
