"""The clock of the in-memory stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Begins at the present time and moves only with `advance`."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    @property
    def now_ms(self) -> int:
        return round(self.now.timestamp() * 1000)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
