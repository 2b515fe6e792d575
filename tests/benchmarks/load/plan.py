"""What a generator is to do, and what it has measured; both cross a pipe as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np
import orjson

from tests.benchmarks.load.traffic import Traffic

BUCKET_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Phase:
    """`clients` side by side, or `rate` requests a second. `prepared` requests are made for it beforehand.

    Answers that come after its end are waited for; only where not `drains`, the next phase begins at once.
    """

    traffic: Traffic
    seconds: float
    prepared: int
    clients: int = 0
    rate: float = 0.0
    drains: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    port: int
    phases: Sequence[Phase]
    host: str = "127.0.0.1"
    path: str = "/v1/embeddings"

    def written(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def read(cls, source: bytes) -> Self:
        plan = orjson.loads(source)
        phases = [Phase(**{**phase, "traffic": Traffic(**phase["traffic"])}) for phase in plan.pop("phases")]
        return cls(phases=phases, **plan)


@dataclass
class Tally:
    """What became of the requests of one phase."""

    sent: int = 0
    lost: int = 0
    """Connections that ended before the answer."""
    unanswered: int = 0
    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    finished_at: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    least_bytes: dict[int, int] = field(default_factory=dict)

    def answered(self, status: int, seconds: float, at_s: float, size: int) -> None:
        self.seconds[status].append(seconds)
        self.finished_at[status].append(at_s)
        self.least_bytes[status] = min(size, self.least_bytes.get(status, size))

    def summary(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "lost": self.lost,
            "unanswered": self.unanswered,
            "ms": {str(status): (np.array(found) * 1000).round(3).tolist() for status, found in self.seconds.items()},
            "buckets": {str(status): _buckets(found) for status, found in self.finished_at.items()},
            "least_bytes": {str(status): size for status, size in self.least_bytes.items()},
        }


def _buckets(moments_s: Sequence[float]) -> list[int]:
    """Answers in each quarter of a second since the phase began."""
    counts = Counter(int(moment / BUCKET_S) for moment in moments_s)
    return [counts[bucket] for bucket in range(max(counts) + 1)]


@dataclass(frozen=True, slots=True)
class Measured:
    """One phase as the generator saw it. `ms` are the latencies of each status, in no order."""

    seconds: float
    sent: int
    lost: int
    unanswered: int
    generator_cpu_s: float
    ms: dict[str, list[float]]
    buckets: dict[str, list[int]]
    least_bytes: dict[str, int]

    @property
    def per_second(self) -> float:
        """Answers with vectors, within the phase."""
        return sum(self.buckets.get("200", [])[: int(self.seconds / BUCKET_S)]) / self.seconds

    def percentile_ms(self, percent: float, status: str = "200") -> float:
        return float(np.percentile(self.ms[status], percent)) if self.ms.get(status) else float("nan")

    def answers(self, status: str) -> int:
        return len(self.ms.get(status, []))

    @property
    def refused_otherwise(self) -> int:
        """Answers other than vectors and 429."""
        return sum(len(found) for status, found in self.ms.items() if status not in ("200", "429"))
