"""The programs that a child may have its parent start for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """A program at `path`, started only with arguments for which `allows` returns True."""

    path: str
    allows: Callable[[Sequence[str]], bool]
