"""The parent's side of a launcher: it starts, measures and ends children."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ingestion.errors import WorkerFault
from ingestion.sandbox.confine import ProcessLimits, Protections
from ingestion.sandbox.frames import PREFIX_BYTES, BadFrame, frame, lengths, parse

_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_PASSED_ON: Final = ("LD_LIBRARY_PATH", "FONTCONFIG_FILE", "FONTCONFIG_PATH")
"""The variables that a launcher and its children inherit: the paths of libraries and fonts."""

_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; from ingestion.sandbox.launcher import main; main(int(sys.argv[1]))"
)


class LauncherGone(WorkerFault):
    """The launcher died; the next call starts another."""


async def send_async(
    sock: socket.socket, message: dict[str, Any], blobs: Sequence[bytes] = (), fds: Sequence[int] = ()
) -> None:
    """Raises OSError, BadFrame."""
    loop = asyncio.get_running_loop()
    parts = frame(message, list(blobs))
    if fds:
        sent = socket.send_fds(sock, parts[:1], list(fds))
        parts[0] = parts[0][sent:]
    for part in parts:
        if part:
            await loop.sock_sendall(sock, part)


async def receive_async(sock: socket.socket, *, max_body_bytes: int) -> tuple[dict[str, Any], list[bytes]]:
    """Raises BadFrame, OSError, EOFError where the peer has closed the socket. Ignores descriptors that it sends."""
    sizes = lengths(bytes(await _exactly(sock, PREFIX_BYTES)), max_body_bytes=max_body_bytes)
    return parse(bytes(await _exactly(sock, sizes.header)), await _exactly(sock, sizes.body))


async def _exactly(sock: socket.socket, count: int) -> bytearray:
    loop, data, at = asyncio.get_running_loop(), bytearray(count), 0
    view = memoryview(data)
    while at < count:
        read = await loop.sock_recv_into(sock, view[at:])
        if not read:
            raise EOFError
        at += read
    view.release()
    return data


class LauncherClient:
    """One launcher process. It answers one request at a time."""

    def __init__(self) -> None:
        """Starts the process. Raises OSError."""
        self.loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._turn = asyncio.Lock()
        self._prepared: dict[tuple[str, str], Protections] = {}
        self._opened: set[Any] = {self._control}
        self._exchanges: set[asyncio.Task[dict[str, Any]]] = set()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno()), *_import_path()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT | {name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the parent, which may have documents to finish
            )

    def close(self) -> None:
        """End the launcher and all its children at once."""
        for one in self._opened:
            if isinstance(one, socket.socket):
                self._forget(one)
            one.close()
        self._opened.clear()
        self._process.kill()
        self._process.wait()

    def _forget(self, sock: socket.socket) -> None:
        """Unregister `sock` from the event loop before it is closed.

        The loop would keep the number of the descriptor, and never find the next socket with that number readable.
        """
        if not self.loop.is_closed() and (descriptor := sock.fileno()) >= 0:
            self.loop.remove_reader(descriptor)
            self.loop.remove_writer(descriptor)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def own(self, resource: Any) -> None:
        """Close `resource` together with the launcher, unless `release` closes it earlier."""
        self._opened.add(resource)

    def release(self, resource: Any) -> None:
        self._opened.discard(resource)
        resource.close()

    async def prepare(self, module: str, function: str, main_file: str) -> Protections:
        """Have the launcher import `module` and look up `function` in it, for the children that are started later.

        `main_file` is the file of the program where `module` is `__main__`, else "". Raises WorkerFault.
        """
        key = (module, function)
        if key not in self._prepared:
            request = {"do": "prepare", "module": module, "function": function, "main": main_file}
            self._prepared[key] = Protections(**(await self._ask(request))["protections"])
        return self._prepared[key]

    def modules(self) -> frozenset[str]:
        """The modules that a child which is started now has."""
        return frozenset(module for module, _ in self._prepared)

    async def start_child(self, limits: ProcessLimits, calls: int, stderr: int) -> int:
        """The process id. Raises WorkerFault."""
        return await self._start({"do": "child", "limits": asdict(limits)}, [calls, stderr])

    async def start_program(
        self, path: str, arguments: list[str], limits: ProcessLimits, stdout: int, stderr: int
    ) -> int:
        request = {"do": "program", "path": path, "arguments": arguments, "limits": asdict(limits)}
        return await self._start(request, [stdout, stderr])

    async def usage(self, pid: int) -> float:
        """CPU seconds so far."""
        return float((await self._ask({"do": "usage", "pid": pid}))["cpu_s"])

    async def end(self, pid: int) -> tuple[float, int | None]:
        """Kill the process where it still runs. Returns its CPU seconds and exit status, negative for a signal."""
        answer = await self._ask({"do": "end", "pid": pid})
        return float(answer["cpu_s"]), answer["status"]

    async def drop(self, pid: int) -> None:
        """Kill the process without waiting for its end."""
        await self._ask({"do": "drop", "pid": pid})

    async def _ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """A cancelled caller does not stop its request, or the next request would get the answer."""
        return await asyncio.shield(self._begin(request, descriptors))

    async def _start(self, request: dict[str, Any], descriptors: Sequence[int]) -> int:
        """Returns the id of the new process. Where the caller is cancelled, the process is killed."""
        started = self._begin(request, descriptors)
        try:
            return int((await asyncio.shield(started))["pid"])
        except asyncio.CancelledError:
            started.add_done_callback(self._drop_started)
            raise

    def _drop_started(self, started: asyncio.Task[dict[str, Any]]) -> None:
        if not started.cancelled() and started.exception() is None:
            self._begin({"do": "drop", "pid": started.result()["pid"]}, ())

    def _begin(self, request: dict[str, Any], descriptors: Sequence[int]) -> asyncio.Task[dict[str, Any]]:
        copies = [os.dup(descriptor) for descriptor in descriptors]
        exchange = asyncio.create_task(self._exchange(request, copies))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        return exchange

    async def _exchange(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        try:
            async with self._turn:
                await send_async(self._control, request, fds=descriptors)
                answer, _ = await receive_async(self._control, max_body_bytes=0)
        except (EOFError, OSError, BadFrame) as error:
            raise LauncherGone(f"the process that starts children died: {error!r}") from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if "error" in answer:
            raise WorkerFault(f"no child process could be started: {answer['error']}")
        return answer


def _import_path() -> list[str]:
    """sys.path with absolute entries, and with the folder of this package."""
    root = str(Path(__file__).parents[2])
    paths = [str(Path(path).absolute()) for path in sys.path]
    return list(dict.fromkeys([*paths, root]))


def read_stderr(descriptor: int, most_bytes: int) -> str:
    """Returns what can be read without waiting."""
    with suppress(BlockingIOError):
        return os.read(descriptor, most_bytes).decode(errors="replace")
    return ""
