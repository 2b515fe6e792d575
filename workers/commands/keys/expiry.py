"""Reads the time at which a key expires."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


def parse_expiry(text: str) -> datetime:
    """Reads ISO 8601, in UTC where it has no zone, and a time from now such as 12h, 90d, 52w.

    Raises BadParameter, also for a time in the past.
    """
    now = datetime.now(UTC)
    try:
        if span := re.fullmatch(r"(\d+)([hdw])", text):
            found = now + timedelta(**{_UNITS[span[2]]: int(span[1])})
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is no time such as 2027-05-01T12:00, and no span: 12h, 90d") from error
    at = found if found.tzinfo else found.replace(tzinfo=UTC)
    if at <= now:
        raise typer.BadParameter(f"{text!r} is in the past")
    return at
