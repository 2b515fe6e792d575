"""How much may be in flight at a time. What comes on top is refused at once, while it costs nothing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from ingestion import metrics
from workers.embedding.serving.api_errors import LaneFull

_RECENT_S: Final = 10.0
_RECENT_REQUESTS: Final = 2048
_LONGEST_RETRY_S: Final = 30


class AdmissionLane:
    """Requests of one modality, limited by what they cost together: estimated tokens of text, patches of images."""

    def __init__(self, name: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._limit = limit
        self._clock = clock
        self._latencies_s = deque[float](maxlen=_RECENT_REQUESTS)
        self._served = deque[tuple[float, int]](maxlen=_RECENT_REQUESTS)
        self._busy_since = 0.0
        self._gauge = metrics.LANE_COST.labels(name)
        self._histogram = metrics.EMBED_LATENCY.labels(name)
        self._lookups = [metrics.CACHE_LOOKUPS.labels(name, result) for result in ("hit", "miss", "invalid")]
        self.requests_in_flight = 0
        self.inputs_in_flight = 0
        self.cost_in_flight = 0
        self.admitted = 0
        self.refused = 0
        self.hits = 0
        self.misses = 0

    @contextmanager
    def admit(self, inputs: int, cost: int) -> Iterator[None]:
        """Hold room for `inputs` that cost `cost` in all. Raises LaneFull where there is none.

        What is larger than the whole lane is let in when the lane is empty.
        """
        if self.requests_in_flight and self.cost_in_flight + cost > self._limit:
            self.refused += 1
            raise LaneFull(self.name, self._retry_after_s(cost))
        if not self.requests_in_flight:
            self._busy_since = self._clock()
        self.admitted += 1
        self._occupy(1, inputs, cost)
        try:
            yield
            self._served.append((self._clock(), cost))
        finally:
            self._occupy(-1, -inputs, -cost)

    def count_lookup(self, hits: int, misses: int, invalid: int) -> None:
        """What became of inputs that were looked for in the cache; what is invalid counts as a miss."""
        self.hits += hits
        self.misses += misses + invalid
        for counter, count in zip(self._lookups, (hits, misses, invalid), strict=True):
            if count:
                counter.inc(count)

    def observe(self, seconds: float) -> None:
        """A request was answered with embeddings, from the model or from the cache."""
        self._latencies_s.append(seconds)
        self._histogram.observe(seconds)

    def status(self) -> dict[str, Any]:
        """For /health. `queue_depth` counts inputs that wait for the model or are in it, `in_flight` requests."""
        latency_ms = dict.fromkeys(("p50", "p95", "p99"))
        if self._latencies_s:
            quantiles = np.percentile(np.array(self._latencies_s) * 1000, (50, 95, 99))
            latency_ms = dict(zip(latency_ms, quantiles.round(2).tolist(), strict=True))
        return {
            "queue_depth": self.inputs_in_flight,
            "in_flight": self.requests_in_flight,
            "cost_in_flight": self.cost_in_flight,
            "cost_limit": self._limit,
            "admitted": self.admitted,
            "refused": self.refused,
            "cache_hits": self.hits,
            "cache_misses": self.misses,
            "latency_ms": latency_ms,
        }

    def _occupy(self, requests: int, inputs: int, cost: int) -> None:
        self.requests_in_flight += requests
        self.inputs_in_flight += inputs
        self.cost_in_flight += cost
        self._gauge.set(self.cost_in_flight)

    def _retry_after_s(self, cost: int) -> int:
        """When there should be room for `cost`, at the rate of the last seconds."""
        now = self._clock()
        since = max(now - _RECENT_S, self._busy_since)
        done = sum(served for at, served in self._served if at >= since)
        if not done:
            return 1
        excess = min(self.cost_in_flight, self.cost_in_flight + cost - self._limit)
        wait_s = excess * (now - since) / done
        return min(_LONGEST_RETRY_S, max(1, math.ceil(wait_s)))
