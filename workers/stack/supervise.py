"""A supervised child process: it cannot outlive its parent, and its whole process group is stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ingestion.errors import Fault, IngestError
from workers.stack.environment import replace_settings

REPORTED_LINES: Final = 20
"""The number of log lines in `exit_report`."""

_DIE_WITH_PARENT: Final = Path(__file__).with_name("die_with_parent.py")
_PROBE_TIMEOUT_S: Final = 5.0
_PROBE_PAUSE_S: Final = 0.1
_LARGEST_LOG_BYTES: Final = 10 * 1024**2
_TAIL_BYTES: Final = 64 * 1024


class StackError(IngestError):
    """The local stack cannot start or continue. The message names the process and the cause."""

    code = "stack"
    fault = Fault.SERVER


class NotReady(Exception):
    """A probe raises it while its process is not ready."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to run a process. `env` is added to the parent's environment; `probe` raises NotReady until it is usable."""

    name: str
    argv: tuple[str, ...]
    address: str
    probe: Callable[[], Awaitable[None]]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ready_s: float = 60.0
    stop_s: float = 15.0
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """The signal that the kernel sends to the process if the parent is killed."""
    start_delay_s: Callable[[], float] = lambda: 0.0
    """Returns how long a start must wait."""


class Supervised:
    """A running `ProcessSpec`, in a process group of its own, with its output in `log_path`."""

    def __init__(self, spec: ProcessSpec, log_path: Path, *, inherited_fds: tuple[int, ...] = ()) -> None:
        self.spec = spec
        self.log_path = log_path
        self._inherited_fds = inherited_fds
        self._process: Process | None = None
        self._log_start_bytes = 0
        self._group_ended = True

    @property
    def pid(self) -> int:
        """The process id of the last start; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, or start it again after it has ended. Waits for `start_delay_s` first.

        Raises StackError where the process cannot be executed.
        """
        await asyncio.sleep(self.spec.start_delay_s())
        if self.log_path.exists() and self.log_path.stat().st_size > _LARGEST_LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("ab") as log:
            self._log_start_bytes = log.tell()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *_dying_with_parent(self.spec.argv, self.spec.orphan_signal),
                    stdin=DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.spec.cwd,
                    env=self._environment(),
                    start_new_session=True,
                    pass_fds=self._inherited_fds,
                )
            except OSError as error:
                raise StackError(f"{self.spec.name} cannot be started: {error}") from error
        self._group_ended = False

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        replace_settings(environment, self.spec.env)
        return environment

    async def wait_ready(self) -> None:
        """Return once the probe succeeds. Raises StackError where the process ends first or takes over `ready_s`."""
        ended = asyncio.create_task(self.wait())
        probed = asyncio.create_task(self._probe_until_ready())
        try:
            await asyncio.wait({ended, probed}, return_when=asyncio.FIRST_COMPLETED)
            if not probed.done():
                raise StackError(self.exit_report())
            probed.result()
        finally:
            for task in (ended, probed):
                task.cancel()
            await asyncio.gather(ended, probed, return_exceptions=True)

    async def wait(self) -> int:
        """Wait until the process and its group have ended. Return the exit status, negative for a signal."""
        assert self._process is not None, "wait() before start()"
        status = await self._process.wait()
        self.kill()
        return status

    async def stop(self) -> None:
        """Send the stop signal, and SIGKILL to its group after `stop_s`. Safe to repeat, and before a start."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(self.spec.stop_signal)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.spec.stop_s):
                    await self._process.wait()
        self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """Send SIGKILL to the process and its group.

        After the end of the process, signal the group only once: the kernel may give its number to another process.
        """
        if self._process is None or self._group_ended:
            return
        self._group_ended = not self.is_running
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def exit_report(self) -> str:
        """Return the exit status, and the last lines of the log since the start."""
        status = self._process.returncode if self._process else None
        how = f"was killed by {signal.Signals(-status).name}" if status and status < 0 else f"exited with {status}"
        lines = self._tail()
        shown = "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"
        return f"{self.spec.name} {how}; the end of {self.log_path}:\n{shown}"

    def _tail(self) -> list[str]:
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start_bytes, size - _TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-REPORTED_LINES:]

    async def _probe_until_ready(self) -> None:
        cause = "it was never asked"
        try:
            async with asyncio.timeout(self.spec.ready_s):
                while True:
                    try:
                        async with asyncio.timeout(_PROBE_TIMEOUT_S):
                            return await self.spec.probe()
                    except NotReady as error:
                        cause = str(error)
                    except TimeoutError:
                        cause = f"no answer within {_PROBE_TIMEOUT_S:g} s"
                    await asyncio.sleep(_PROBE_PAUSE_S)
        except TimeoutError as error:
            raise StackError(
                f"{self.spec.name} was not ready after {self.spec.ready_s:g} s ({cause}); see {self.log_path}"
            ) from error


def _dying_with_parent(argv: tuple[str, ...], orphan_signal: signal.Signals) -> tuple[str, ...]:
    """Raises FileNotFoundError if there is no such program."""
    if shutil.which(argv[0]) is None:
        raise FileNotFoundError(f"no program {argv[0]}")
    if sys.platform != "linux":
        return argv
    return (sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(int(orphan_signal)), str(os.getpid()), *argv)
