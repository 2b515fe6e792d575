"""The figures of a load test."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ingestion.model import DocumentState
from workers.bench.load import LoadedFile, LoadPlan
from workers.bench.sampling import LoadSample

_PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds. `count` files were measured."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float
    longest_s: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency | None:
        """Return None where there are no values."""
        values = list(seconds)
        if not values:
            return None
        p50_s, p95_s, p99_s = (float(value) for value in np.percentile(values, _PERCENTILES))
        return cls(len(values), p50_s, p95_s, p99_s, max(values))


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The figures of a run. `error_answers` counts answers by HTTP status, also those whose requests were repeated."""

    plan: LoadPlan
    target: str
    started_at: str
    duration_s: float
    is_interrupted: bool
    states: Mapping[str, int]
    accepted: Latency | None
    ready: Latency | None
    pages_ready: int
    pages_per_s: float
    failures: Mapping[str, int]
    error_answers: Mapping[str, int]
    retried_documents: int
    most_backlog: int
    most_lag: float | None
    most_rss_bytes: Mapping[str, int]
    samples: Sequence[LoadSample]
    files: Sequence[LoadedFile]

    @property
    def is_good(self) -> bool:
        """True where every file became ready."""
        return self.states.get(DocumentState.READY.value, 0) == self.plan.files

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "all_ready": self.is_good}


def load_report(
    plan: LoadPlan,
    files: Sequence[LoadedFile],
    samples: Sequence[LoadSample],
    *,
    target: str,
    started_at: str,
    duration_s: float,
    is_interrupted: bool,
    error_answers: Mapping[int, int],
) -> LoadReport:
    """Summarise a run, complete or not."""
    ready = [file for file in files if file.state == DocumentState.READY]
    pages_ready = sum(file.pages for file in ready)
    rss_names = {name for sample in samples for name in sample.rss_bytes}
    lags = [sample.lag for sample in samples if sample.lag is not None]
    return LoadReport(
        plan=plan,
        target=target,
        started_at=started_at,
        duration_s=duration_s,
        is_interrupted=is_interrupted,
        states=dict(Counter(file.state for file in files)),
        accepted=Latency.of(file.accepted_s - file.due_s for file in files if file.accepted_s is not None),
        ready=Latency.of(file.settled_s - file.due_s for file in ready if file.settled_s is not None),
        pages_ready=pages_ready,
        pages_per_s=pages_ready / _last_ready_s(ready) if ready else 0.0,
        failures=dict(Counter(file.error_code for file in files if file.error_code)),
        error_answers={str(status): count for status, count in sorted(error_answers.items())},
        retried_documents=sum(file.attempts > 1 for file in files),
        most_backlog=max((sample.backlog for sample in samples), default=0),
        most_lag=max(lags, default=None),
        most_rss_bytes={name: max(one.rss_bytes.get(name, 0) for one in samples) for name in sorted(rss_names)},
        samples=samples,
        files=files,
    )


def pages_per_s(samples: Sequence[LoadSample], window_s: float) -> tuple[list[float], list[float]]:
    """Return times, and for each time the pages a second in the window that ends then."""
    times, rates = [], []
    for at, sample in enumerate(samples):
        first = next(one for one in samples[: at + 1] if one.at_s >= sample.at_s - window_s)
        passed_s = sample.at_s - first.at_s
        if passed_s > 0:
            times.append(sample.at_s)
            rates.append((sample.pages_done - first.pages_done) / passed_s)
    return times, rates


def _last_ready_s(ready: Sequence[LoadedFile]) -> float:
    return max(file.settled_s or 0.0 for file in ready)
