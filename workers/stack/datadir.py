"""The files of a stack in its data directory, besides the data of its servers: lock, secrets, ports, stack.json, logs.

This module imports only the standard library, so that every command finds a running stack fast.
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

from workers.stack.port_claims import is_alive, port_claims
from workers.stack.supervise import StackError

DEFAULT: Final = Path(".pagemill")

# Below the range of ports that Linux gives to outgoing connections. Such a connection could take a port before the
# server listens on it, or connect to itself.
_PORTS: Final = range(20_000, 32_000)
_ORPHANS_S: Final = 20.0
"""How long `acquire` waits for the servers of a killed stack to end."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made once for each data directory, so that a restarted stack accepts the same credentials."""

    api_key: str
    s3_access_key: str
    s3_secret_key: str


class DataDir:
    """The files of one stack under `root`. Only the owner can read the directories that `make` creates."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.stack_file = self.root / "stack.json"
        self._lock_file = self.root / "lock"

    def make(self, *names: str) -> None:
        """Create the directory and the sub-directories `names` if they are missing. Raises StackError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("logs", *names):
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StackError(f"data directory {self.root} cannot be made: {error.strerror}") from error

    def log_path(self, process: str) -> Path:
        return self.root / "logs" / f"{process}.log"

    async def acquire(self) -> int:
        """Lock the directory and return the descriptor of the lock. Raises StackError while a stack uses it.

        Every child process inherits the lock, so it is held until the last child has ended. If the process that took
        the lock has ended, its servers are stopping, and this waits for them.
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
            raise StackError(
                f"data directory {self.root} is in use by servers of a killed stack that still run"
            ) from error
        except BaseException:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def is_in_use(self) -> bool:
        """True while a process of a stack on this directory runs."""
        try:
            fd = os.open(self._lock_file, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _locked(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def secrets(self) -> Secrets:
        """Return the secrets of the directory. The first call makes them."""
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
        """Return a free port of 127.0.0.1 for each name. A name keeps its last port while that is free.

        No other stack of this user gets one of them while this process lives.
        """
        path = self.root / "ports.json"
        ports: dict[str, int] = _read_json(path) or {}
        names = list(names)
        with port_claims(self.root) as claims:
            taken = claims.of_others
            for name in names:
                port = ports.pop(name, 0)
                while port in taken or port in ports.values() or not _is_free(port):
                    port = random.choice(_PORTS)
                ports[name] = port
            claims.claim(ports.values())
        _write_json(path, ports)
        return {name: ports[name] for name in names}

    def write_stack(self, content: dict[str, Any]) -> None:
        _write_json(self.stack_file, content)

    def read_stack(self) -> dict[str, Any] | None:
        """Return the stack.json of the stack that runs on this directory. None if none runs."""
        return _read_json(self.stack_file) if self.is_in_use() and self._living_holder() else None

    def remove_stack(self) -> None:
        self.stack_file.unlink(missing_ok=True)

    def _living_holder(self) -> int:
        """Return the process that locked the directory last. Return 0 if it has ended, also while its children run."""
        pid = int(self._lock_file.read_text() or 0)
        return pid if pid and is_alive(pid) else 0


def _write_json(path: Path, content: object) -> None:
    """Replace `path` atomically. Only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file, indent=2)
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return None if there is no such file."""
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


def _is_free(port: int) -> bool:
    if port not in _PORTS:
        return False
    with socket.socket() as probe:
        # The servers set this as well: they can listen while connections of the last run are still closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
