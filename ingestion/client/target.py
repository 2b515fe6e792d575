"""An API to talk to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """An API and how to bring it up, `remedy`, should it not answer."""

    api_url: str
    api_key: str
    remedy: str
    is_local: bool
