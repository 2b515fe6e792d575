"""The effort of a search, which its caller chooses."""

from __future__ import annotations

from enum import StrEnum


class Effort(StrEnum):
    """What a search may cost."""

    FAST = "fast"
    """Scores half as many pages exactly as `balanced`, and asks the ANN index for half as many rows."""
    BALANCED = "balanced"
    EXHAUSTIVE = "exhaustive"
    """Exact MaxSim over every page of the collection, which takes seconds for thousands of pages."""
