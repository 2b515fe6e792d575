"""Files and samples of load tests that were not run."""

from __future__ import annotations

from typing import Any

from workers.bench.load import LoadedFile, LoadPlan
from workers.bench.sampling import LoadSample

PLAN = LoadPlan(files=3, pages=2, concurrency=2)


def a_file(number: int, **changes: Any) -> LoadedFile:
    settled = {"accepted_s": number + 0.5, "settled_s": number + 2.0, "state": "ready", "pages_done": 2, "attempts": 1}
    return LoadedFile(f"load-{number}.pdf", 2, float(number), **{**settled, **changes})


def a_sample(at_s: float, pages_done: int, *, lag: float | None = None, rss: int = 0) -> LoadSample:
    return LoadSample(at_s, pages_done, backlog=2, lag=lag, rss_bytes={"api": rss} if rss else {})
