"""A temporary folder of one process. The next process removes the folders of processes that were killed.

It counts them too: a process that is killed, or ended by its watchdog, cannot report its own end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ingestion import metrics
from ingestion.errors import Stalled

_ROOT: Final = "pagemill-{uid}"
_LOCK: Final = "lock"


@contextmanager
def own_scratch(base: Path | None = None) -> Iterator[Path]:
    """Within the block, `tempfile` puts its files into a fresh folder under `base`, by default the system's.

    This process holds a lock on the folder while it lives. Folders whose lock is free belong to processes that were
    killed; they are removed first, and their number is a metric. A process that ends because of `Stalled` leaves its
    folder, so that it is counted as well.
    """
    root = Path(base or tempfile.gettempdir()) / _ROOT.format(uid=os.getuid())
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (root / _LOCK).open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # no other process may find the folder before it is locked
        metrics.UNCLEAN_EXITS.set(_remove_abandoned(root))
        folder = Path(tempfile.mkdtemp(dir=root))
        held = (folder / _LOCK).open("w")
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    is_clean = True
    try:
        yield folder
    except Stalled:
        is_clean = False
        raise
    finally:
        tempfile.tempdir = before
        if is_clean:
            shutil.rmtree(folder, ignore_errors=True)
        held.close()


def _remove_abandoned(root: Path) -> int:
    """Return the number of folders."""
    abandoned = [folder for folder in root.iterdir() if folder.is_dir() and not _is_held(folder)]
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)
    return len(abandoned)


def _is_held(folder: Path) -> bool:
    with suppress(FileNotFoundError), (folder / _LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
