"""Admission control: limit the work in flight, and refuse the rest before it costs anything."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from ingestion import metrics
from workers.embedding.serving.service_errors import LaneFull

_RECENT_S: Final = 10.0
_RECENT_REQUESTS: Final = 2048
_LONGEST_RETRY_S: Final = 30


class AdmissionLane:
    """Requests of one kind, limited by their total cost: estimated tokens of texts, patches of images."""

    def __init__(self, name: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._limit = limit
        self._clock = clock
        self._latencies_s = deque[float](maxlen=_RECENT_REQUESTS)
        self._served = deque[tuple[float, int]](maxlen=_RECENT_REQUESTS)
        self._busy_since_s = 0.0
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
        """Reserve `cost` for the block. Raises LaneFull at once if the lane has not that much left.

        An empty lane admits any cost, so that a request larger than the limit is possible.
        """
        if self.requests_in_flight and self.cost_in_flight + cost > self._limit:
            self.refused += 1
            raise LaneFull(self.name, self._retry_after_s(cost))
        if not self.requests_in_flight:
            self._busy_since_s = self._clock()
        self.admitted += 1
        self._add(1, inputs, cost)
        try:
            yield
            self._served.append((self._clock(), cost))
        finally:
            self._add(-1, -inputs, -cost)

    def count_lookup(self, hits: int, misses: int, invalid: int) -> None:
        """Count cache lookups by result. An invalid value also counts as a miss."""
        self.hits += hits
        self.misses += misses + invalid
        for counter, count in zip(self._lookups, (hits, misses, invalid), strict=True):
            if count:
                counter.inc(count)

    def observe(self, seconds: float) -> None:
        """Record the latency of a request that was answered with embeddings, cached or computed."""
        self._latencies_s.append(seconds)
        self._histogram.observe(seconds)

    def status(self) -> dict[str, Any]:
        """For /health. `queue_depth` counts inputs that wait for or run in the model; `in_flight` counts requests."""
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

    def _add(self, requests: int, inputs: int, cost: int) -> None:
        self.requests_in_flight += requests
        self.inputs_in_flight += inputs
        self.cost_in_flight += cost
        self._gauge.set(self.cost_in_flight)

    def _retry_after_s(self, cost: int) -> int:
        """Seconds until `cost` should fit: excess cost / cost served per second in the last 10 s."""
        now_s = self._clock()
        since_s = max(now_s - _RECENT_S, self._busy_since_s)
        done = sum(cost for at_s, cost in self._served if at_s >= since_s)
        if not done:
            return 1
        excess = min(self.cost_in_flight, self.cost_in_flight + cost - self._limit)
        wait_s = excess * (now_s - since_s) / done
        return min(_LONGEST_RETRY_S, max(1, math.ceil(wait_s)))
