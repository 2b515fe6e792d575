"""Operations that an embedder's threads are running now, so that a watchdog can see a device or a model that hangs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ActivityTracker:
    """Implements `ports.Activity`. Safe to use from many threads: each change is one operation on a dict."""

    def __init__(self) -> None:
        self._running: dict[object, None] = {}
        self.completed = 0
        """Operations that have ended, with or without an error. Two threads that end one at the same moment may count
        once: compare values for change only."""

    @property
    def oldest(self) -> object:
        """A token of the oldest running operation, the same object while that operation runs; None while idle."""
        try:
            return next(iter(self._running), None)
        except RuntimeError:  # the dict changed during the read: an operation began or ended
            return object()

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count the block as one operation of the calling thread."""
        token = object()
        self._running[token] = None
        try:
            yield
        finally:
            self._running.pop(token, None)
            self.completed += 1
