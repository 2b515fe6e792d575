"""The id of the request that a task works for. Each task has its own; a task that it starts inherits it."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from typing import Final

_current: ContextVar[str] = ContextVar("request_id", default="")
_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_ID_BYTES: Final = 16


def current_request_id() -> str:
    """Empty where the task works for no request."""
    return _current.get()


def use_request_id(request_id: str) -> None:
    """Let the current task, and the tasks that it starts from now on, work for this request."""
    _current.set(request_id)


def new_request_id() -> str:
    return secrets.token_hex(_ID_BYTES)


def is_request_id(text: str) -> bool:
    """Whether `text` from outside may be used: it is written into logs, headers and records."""
    return _ID.fullmatch(text) is not None
