"""The interface of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do. `command` is for the operator where the step does not do it itself; else it is empty."""

    what: str
    command: str = ""
    is_required: bool = True
    """Whether records can be lost, or the release cannot run, until it is done."""


class Step(Protocol):
    """Both methods raise DependencyUnavailable, and DependencyRefused where this process has no right to do it."""

    name: str
    version: int
    """Grows with each release that asks more of the step."""

    async def tasks(self) -> Sequence[Task]:
        """What is to be done. Changes nothing."""

    async def apply(self) -> None:
        """Do what has no command. Safe to repeat, also by several processes at once."""
