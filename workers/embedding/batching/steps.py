"""What the threads of an embedder are at, so that a device or a model that hangs can be told from one that works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Steps:
    """Steps under way and steps done. Safe to use from many threads: each change is one operation on a dict."""

    def __init__(self) -> None:
        self._under_way: dict[object, None] = {}
        self.done = 0
        """Steps that have ended, well or not. Changes with each of them, as long as one thread at a time ends one."""

    @property
    def oldest(self) -> object:
        """The same object for as long as the same step is the oldest under way; None while there is none."""
        try:
            return next(iter(self._under_way), None)
        except RuntimeError:  # one began or ended at this moment
            return object()

    @contextmanager
    def step(self) -> Iterator[None]:
        """The block is a step, in the thread that runs it."""
        token = object()
        self._under_way[token] = None
        try:
            yield
        finally:
            self._under_way.pop(token, None)
            self.done += 1
