"""The stages of a search: each is timed by a metric, and is a span of the search's trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ingestion import metrics
from ingestion.tracing import span


@contextmanager
def search_stage(stage: str) -> Iterator[None]:
    """The block is a stage of a search. `stage` is the label of `search_duration_seconds`."""
    with metrics.SEARCH.labels(stage).time(), span(stage):
        yield
