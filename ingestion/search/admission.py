"""Admission control: bounds the searches in flight in a process. A search above the limit is refused at once."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ingestion import metrics
from ingestion.errors import Overloaded

_RECENT_S: Final = 10.0
_RECENT_SEARCHES: Final = 2048
_LONGEST_RETRY_S: Final = 30
_TOKENS_OF_ANY: Final = 24
"""The fixed cost of a search, in tokens: it reads records and texts of pages and signs their image URLs."""
_BYTES_PER_TOKEN: Final = 4
_SPECIAL_TOKENS: Final = 2


def estimated_tokens(query: str) -> int:
    """The number of tokens of a query that has not been embedded yet, estimated from its bytes."""
    return math.ceil(len(query.encode()) / _BYTES_PER_TOKEN) + _SPECIAL_TOKENS


@dataclass(slots=True)
class ReservedRows:
    """The rows that an admitted search has reserved."""

    _admission: Admission
    rows: int

    def resize(self, tokens: int, limit: int) -> None:
        """Reserve `limit` rows for each of `tokens`. Never refused: an admitted search is finished."""
        rows = cost_in_rows(tokens, limit)
        self._admission.occupy(0, rows - self.rows)
        self.rows = rows


def cost_in_rows(tokens: int, limit: int) -> int:
    """The cost of a search that asks the ANN index for `limit` rows for each of `tokens`."""
    return (tokens + _TOKENS_OF_ANY) * limit


class Admission:
    """Limits searches by the rows that they ask of the ANN index together: their times grow with these rows."""

    def __init__(self, limit_rows: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._limit_rows = limit_rows
        self._clock_s = clock_s
        self._served = deque[tuple[float, int]](maxlen=_RECENT_SEARCHES)
        self._busy_since_s = 0.0
        self.searches = 0
        self.rows = 0

    def check_capacity(self, rows: int) -> None:
        """Raises Overloaded where a search that costs `rows` would exceed the limit.

        A search that costs more than the whole limit is admitted while no other search is in flight.
        """
        if self.searches and self.rows + rows > self._limit_rows:
            metrics.SEARCHES_REFUSED.inc()
            raise Overloaded("search", self._retry_after_s(rows))

    @contextmanager
    def admit(self, rows: int) -> Iterator[ReservedRows]:
        """Reserve `rows` for the length of the block. Raises Overloaded as `check_capacity` does."""
        self.check_capacity(rows)
        if not self.searches:
            self._busy_since_s = self._clock_s()
        metrics.SEARCHES_ADMITTED.inc()
        reserved = ReservedRows(self, rows)
        self.occupy(1, rows)
        try:
            yield reserved
            self._served.append((self._clock_s(), reserved.rows))
        finally:
            self.occupy(-1, -reserved.rows)

    def occupy(self, searches: int, rows: int) -> None:
        self.searches += searches
        self.rows += rows
        metrics.SEARCH_ROWS.set(self.rows)

    def _retry_after_s(self, rows: int) -> int:
        """In how many seconds `rows` should be free, at the rate of the last seconds."""
        now_s = self._clock_s()
        since_s = max(now_s - _RECENT_S, self._busy_since_s)
        done = sum(served for at_s, served in self._served if at_s >= since_s)
        if not done:
            return 1
        excess = min(self.rows, self.rows + rows - self._limit_rows)
        return min(_LONGEST_RETRY_S, max(1, math.ceil(excess * (now_s - since_s) / done)))
