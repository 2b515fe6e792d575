"""The answer of an ANN index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The rows nearest to each token of a query: one token's after another's, and of each the best first."""

    page_keys: NDArray[np.int64]
    """(rows,) the pages that the rows are of."""
    scores: NDArray[np.float32]
    """(rows,) inner products with the token."""
    counts: NDArray[np.int64]
    """(tokens,): the number of rows of each token."""

    @classmethod
    def none(cls, tokens: int) -> Self:
        """No rows for so many tokens."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32), np.zeros(tokens, np.int64))

    def of_tokens(self, start: int, end: int) -> Self:
        """The part for tokens from `start` to before `end`. Shares memory with the whole."""
        first, last = int(self.counts[:start].sum()), int(self.counts[:end].sum())
        return type(self)(self.page_keys[first:last], self.scores[first:last], self.counts[start:end])
