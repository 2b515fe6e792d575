"""Whether the current job goes first where work of several jobs waits for one device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_is_urgent: Final[ContextVar[bool]] = ContextVar("is_urgent", default=False)


def is_urgent() -> bool:
    """False outside of a job."""
    return _is_urgent.get()


@contextmanager
def urgency(*, urgent: bool) -> Iterator[None]:
    """The block, and the tasks that it starts, are urgent or not."""
    token = _is_urgent.set(urgent)
    try:
        yield
    finally:
        _is_urgent.reset(token)
