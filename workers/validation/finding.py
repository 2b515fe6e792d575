"""The result of one item of the checklist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from workers.validation.context import Context


class ItemStatus(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`reason` is one sentence. `evidence` has the values that it rests on."""

    status: ItemStatus
    reason: str
    evidence: Mapping[str, object] = field(default_factory=dict)


def passed(reason: str, **evidence: object) -> Finding:
    return Finding(ItemStatus.PASSED, reason, evidence)


def failed(reason: str, **evidence: object) -> Finding:
    return Finding(ItemStatus.FAILED, reason, evidence)


def skipped(reason: str, **evidence: object) -> Finding:
    return Finding(ItemStatus.SKIPPED, reason, evidence)


def judged(problems: list[str], good: str, **evidence: object) -> Finding:
    """Passed with the reason `good` where there is no problem, else failed with all problems."""
    return failed("; ".join(problems), **evidence) if problems else passed(good, **evidence)


Check: TypeAlias = Callable[[Context], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the checklist. `check` may raise: the item has failed with the error then."""

    name: str
    question: str
    check: Check
