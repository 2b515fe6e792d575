"""The ports that the local stacks of one user have chosen. Two stacks that start at once cannot choose the same port.

A stack chooses all its ports before its first process listens, so a check for free ports is not enough.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from workers.stack.supervise import StackError

_FILE: Final = "pagemill-ports-{uid}.json"


class PortClaims:
    """A stack's view of the claims: those of the other stacks, and a way to add its own."""

    def __init__(self, owner: str, claims: dict[str, list[int]]) -> None:
        self._owner = owner
        self._claims = claims

    @property
    def of_others(self) -> set[int]:
        return {port for owner, (_, *ports) in self._claims.items() if owner != self._owner for port in ports}

    def claim(self, ports: Collection[int]) -> None:
        """Replace this stack's claims. They last as long as this process."""
        self._claims[self._owner] = [os.getpid(), *ports]


@contextmanager
def port_claims(root: Path, folder: Path | None = None) -> Iterator[PortClaims]:
    """Claims of the stack with the data directory `root`. No other stack can choose ports within the block.

    The claims lie in a file of `folder`, by default the system's temporary folder. Raises StackError.
    """
    path = Path(folder or tempfile.gettempdir()) / _FILE.format(uid=os.getuid())
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StackError(f"{path}, where the ports of local stacks are noted, cannot be opened: {error}") from error
    with os.fdopen(fd, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        claims = _living(file.read())
        yield PortClaims(str(root), claims)
        content = json.dumps(claims)
        file.seek(0)
        file.truncate()
        file.write(content)


def _living(content: str) -> dict[str, list[int]]:
    """Return [process, port...] by data directory, for processes that run. A damaged file counts as empty."""
    with suppress(ValueError, AttributeError, TypeError, IndexError):
        return {owner: entry for owner, entry in json.loads(content).items() if is_alive(entry[0])}
    return {}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the number belongs to another user's process now
        return False
    return True
