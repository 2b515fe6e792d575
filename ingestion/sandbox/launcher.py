"""The launcher: a process that imports what children need, and forks a child on request.

It opens no user's file and reads nothing from its children. It starts with an empty environment, in namespaces of its
own; each child confines itself further before it receives a request. The parent sends requests over a socket, one at a
time:

    prepare {module, function, main}                        -> {protections}
    child   {limits} + [socket, stderr]                     -> {pid}
    program {path, arguments, limits} + [stdout, stderr]    -> {pid}
    usage   {pid}                                           -> {cpu_s, status}: the status is null while it runs
    end     {pid}                                           -> {cpu_s, status}: kills it and waits for its end
    drop    {pid}                                           -> {}: kills it. Both end the use of the pid

When the socket closes, the launcher and all its children end.
"""

from __future__ import annotations

import dataclasses
import fcntl
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, NoReturn

from ingestion.sandbox import child
from ingestion.sandbox.channel import Closed, receive, send
from ingestion.sandbox.confine import ProcessLimits, Protections, confine, isolate, ruleset
from ingestion.sandbox.functions import import_function, load_main_module
from ingestion.sandbox.libc import fork
from ingestion.sandbox.plain import signature

_HOOK: Final = "prepare_launcher"
"""A function of this name in a prepared module runs once in the launcher, to load what its children need."""
_CALLS: Final = 3
_RULES: Final = 4
_ABOVE: Final = 10
_END_S: Final = 1.0
"""How long the launcher waits for the end of a killed process, which may have gigabytes to free."""


@dataclasses.dataclass(slots=True)
class _Child:
    status: int | None = None
    cpu_s: float = 0.0
    is_dropped: bool = False


class Launcher:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}
        self._protections: Protections = isolate()

    def serve(self) -> None:
        """Answer requests until the socket closes."""
        requests: dict[str, Callable[[dict[str, Any], list[int]], dict[str, Any]]] = {
            "prepare": self._prepare,
            "child": self._start_child,
            "program": self._start_program,
            "usage": lambda request, _: self._usage(request["pid"]),
            "end": lambda request, _: self._end(request["pid"]),
            "drop": lambda request, _: self._drop(request["pid"]),
        }
        woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        while True:
            sources: list[Any] = [self._control, woken]
            ready, _, _ = select.select(sources, [], [])
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            if self._control not in ready:
                continue
            request, _, descriptors = receive(self._control, max_body_bytes=0)
            try:
                answer = requests[request["do"]](request, descriptors)
            except Exception as error:  # noqa: BLE001 - an import may raise anything
                answer = {"error": f"{type(error).__name__}: {error}"}
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            send(self._control, answer)

    def _prepare(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        if request["main"]:
            load_main_module(request["main"])
        function = import_function(request["module"], request["function"])
        if (hook := getattr(sys.modules[function.__module__], _HOOK, None)) is not None:
            hook()
        signature(function)  # fills the cache that children inherit
        gc.collect()
        gc.freeze()  # keeps garbage collection from copying shared pages in children
        return {"protections": dataclasses.asdict(self._protections)}

    def _start_child(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        limits = ProcessLimits(**request["limits"])

        def run() -> NoReturn:
            calls = socket.socket(fileno=_CALLS)
            confine(limits, self._protections, parent, ruleset=None if rules is None else _RULES)
            child.serve(calls)

        parent, rules = os.getpid(), ruleset(limits, self._protections, program=None)
        return self._fork(run, {2: descriptors[1], _CALLS: descriptors[0]}, rules)

    def _start_program(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        limits, path = ProcessLimits(**request["limits"]), request["path"]

        def run() -> NoReturn:
            held = None if rules is None else _RULES
            confine(limits, self._protections, parent, ruleset=held, may_execute=True)
            os.execve(path, [path, *request["arguments"]], dict(os.environ))

        parent, rules = os.getpid(), ruleset(limits, self._protections, program=path)
        return self._fork(run, {1: descriptors[0], 2: descriptors[1]}, rules)

    def _fork(self, run: Callable[[], NoReturn], descriptors: dict[int, int], rules: int | None) -> dict[str, Any]:
        """`descriptors`: number in the new process -> number here. Besides these, it keeps only stdin and stdout.

        `rules` becomes _RULES in the new process, and is closed here.
        """
        if rules is not None:
            descriptors = descriptors | {_RULES: rules}
        try:
            pid = fork()
        except OSError:
            if rules is not None:
                os.close(rules)
            raise
        if pid == 0:
            try:
                _leave_launcher(descriptors)
                run()
            except BaseException as error:  # noqa: BLE001 - the child must not return into the launcher's code
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(1)
        if rules is not None:
            os.close(rules)
        self._children[pid] = _Child()
        return {"pid": pid}

    def _reap(self) -> None:
        for pid, known in list(self._children.items()):
            if known.status is None:
                found, status, usage = os.wait4(pid, os.WNOHANG)
                if found:
                    known.status = os.waitstatus_to_exitcode(status)
                    known.cpu_s = usage.ru_utime + usage.ru_stime
            if known.status is not None and known.is_dropped:
                del self._children[pid]

    def _usage(self, pid: int) -> dict[str, Any]:
        self._reap()
        known = self._children[pid]
        cpu_s = known.cpu_s if known.status is not None else _cpu_s(pid)
        return {"cpu_s": cpu_s, "status": known.status}

    def _end(self, pid: int) -> dict[str, Any]:
        self._reap()
        if self._children[pid].status is None:  # not reaped, so the pid still belongs to the child
            os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + _END_S
        while self._children[pid].status is None and time.monotonic() < deadline_s:
            time.sleep(0.001)
            self._reap()
        answer = self._usage(pid)
        self._children[pid].is_dropped = True
        return answer

    def _drop(self, pid: int) -> dict[str, Any]:
        self._reap()
        known = self._children[pid]
        if known.status is None:
            os.kill(pid, signal.SIGKILL)
        known.is_dropped = True
        return {}


def _leave_launcher(descriptors: dict[int, int]) -> None:
    """In a new process: close all descriptors but `descriptors`, stdin and stdout, and reset the signal handlers."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    # first to numbers above those that are overwritten
    held = {number: fcntl.fcntl(given, fcntl.F_DUPFD, _ABOVE) for number, given in descriptors.items()}
    for number, given in held.items():
        os.dup2(given, number)
    os.closerange(max(3, *(number + 1 for number in descriptors)), os.sysconf("SC_OPEN_MAX"))


def _cpu_s(pid: int) -> float:
    if sys.platform == "linux":
        return time.clock_gettime(((~pid) << 3) | 2)  # clock_getcpuclockid(3): all threads of another process
    import psutil  # other systems have no clock for another process

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """A handler is needed: only then the signal writes to the wakeup descriptor."""


def main(descriptor: int) -> None:
    """Run the launcher, then end the process."""
    with socket.socket(fileno=descriptor) as control, suppress(Closed, ConnectionError):
        Launcher(control).serve()
    os._exit(0)  # children die with it
