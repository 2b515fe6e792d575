"""Nearest rows of tokens, as lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingestion.ports import Neighbours

Rows = Sequence[Sequence[tuple[int, float]]]
"""Rows of each token as (page_key, inner product), best first."""


def neighbours(rows: Rows) -> Neighbours:
    flat = [row for token in rows for row in token]
    return Neighbours(
        np.array([page_key for page_key, _ in flat], np.int64),
        np.array([score for _, score in flat], np.float32),
        np.array([len(token) for token in rows], np.int64),
    )


def rows_of(found: Neighbours) -> list[list[tuple[int, float]]]:
    """The inverse of `neighbours`."""
    parts = [found.of_tokens(token, token + 1) for token in range(len(found.counts))]
    return [list(zip(part.page_keys.tolist(), part.scores.tolist(), strict=True)) for part in parts]
