"""The address of an API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """An API. `remedy` is part of the error where it does not answer: what the user can do."""

    api_url: str
    api_key: str
    remedy: str
    is_local: bool
