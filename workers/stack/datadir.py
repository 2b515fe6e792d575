"""What a stack keeps in its data directory beside the servers' own data: lock, secrets, ports, stack.json, logs.

Only the standard library is imported, so that every command can look for a running stack.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import secrets
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from workers.stack.supervise import StackError

DEFAULT: Final = Path(".pagemill")

# Below the range from which Linux takes the ports of outgoing connections: one of those could take a port between
# our choosing it and the server's listening on it, or connect to itself.
_PORTS: Final = range(20_000, 32_000)
_ORPHANS_S: Final = 20.0
"""How long the servers of a killed stack are given to end."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made once per data directory, so that a restarted stack knows its clients again."""

    api_key: str
    s3_access_key: str
    s3_secret_key: str


class DataDir:
    """The files of one stack under `root`, which is made, readable by its owner alone, where it is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.stack_file = self.root / "stack.json"
        self._lock_file = self.root / "lock"

    def make(self, *names: str) -> None:
        """Create the directory and the sub-directories `names`. Raises StackError where that is impossible."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("logs", *names):
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StackError(f"data directory {self.root} cannot be made: {error.strerror}") from error

    def log_path(self, process: str) -> Path:
        return self.root / "logs" / f"{process}.log"

    async def acquire(self) -> int:
        """Lock the directory and return the lock's descriptor. Raises StackError where a stack is using it.

        Handed down to every child process, the lock is held until the last of them has ended, however they end. So
        where the holder itself is dead, its servers are just stopping, and this waits for them.
        """
        fd = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            async with asyncio.timeout(_ORPHANS_S):
                while not _locked(fd, fcntl.LOCK_EX):
                    if holder := self._living_holder():
                        raise StackError(f"data directory {self.root} is in use by the stack of process {holder}")
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            os.close(fd)
            raise StackError(f"data directory {self.root} is in use by what a killed stack left running") from error
        except BaseException:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def is_in_use(self) -> bool:
        """True while any process of a stack on this directory lives."""
        try:
            fd = os.open(self._lock_file, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _locked(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def secrets(self) -> Secrets:
        """The directory's secrets, made at the first call."""
        path = self.root / "secrets.json"
        if (kept := _read_json(path)) is not None:
            return Secrets(**kept)
        made = Secrets(
            api_key=secrets.token_urlsafe(24),
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_urlsafe(30),
        )
        _write_json(path, asdict(made))
        return made

    def ports(self, names: Iterable[str]) -> dict[str, int]:
        """A free port of 127.0.0.1 for each name: the one it had the last time, where that is still free."""
        path = self.root / "ports.json"
        ports: dict[str, int] = _read_json(path) or {}
        names = list(names)
        for name in names:
            port = ports.pop(name, 0)
            while port in ports.values() or not _is_free(port):
                port = random.choice(_PORTS)
            ports[name] = port
        _write_json(path, ports)
        return {name: ports[name] for name in names}

    def write_stack(self, content: dict[str, Any]) -> None:
        _write_json(self.stack_file, content)

    def read_stack(self) -> dict[str, Any] | None:
        """The stack.json of the stack that runs on this directory; None where none does."""
        return _read_json(self.stack_file) if self.is_in_use() and self._living_holder() else None

    def remove_stack(self) -> None:
        self.stack_file.unlink(missing_ok=True)

    def _living_holder(self) -> int:
        """The process that locked the directory last; 0 where it has ended, even if its children still run."""
        pid = int(self._lock_file.read_text() or 0)
        return pid if pid and _is_alive(pid) else 0


def _write_json(path: Path, content: object) -> None:
    """Replace `path` in one step; only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file, indent=2)
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    """None where there is no such file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StackError(f"{path} cannot be read: {error}") from error
    return content


def _locked(fd: int, mode: int) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


def _is_free(port: int) -> bool:
    if port not in _PORTS:
        return False
    with socket.socket() as probe:
        # As the servers do: connections of the last run that are still closing are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
