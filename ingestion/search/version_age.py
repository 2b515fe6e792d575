"""The age of collections' versions: for how long a collection has not changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ingestion.ports import Searchable

_MOST_COLLECTIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Seen:
    view: Searchable
    since_s: float


class VersionAge:
    """Notes when each collection was first seen at its present version.

    Between two reads of one version no document of the collection became ready, see `CollectionVersions`. So every row
    that a search has to find is at least as old as the version has been seen for.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._seen: dict[str, _Seen] = {}

    def stable_for_s(self, view: Searchable) -> float:
        """For how many seconds the collection has had the version of `view`; 0 while it has no version."""
        name, now_s = view.binding.collection, self._clock_s()
        if view.version is None:
            self._seen.pop(name, None)
            return 0.0
        seen = self._seen.get(name)
        if seen is None or seen.view != view:
            if len(self._seen) >= _MOST_COLLECTIONS:
                self._seen.clear()  # harmless: their ages only begin again at 0
            self._seen[name] = seen = _Seen(view, now_s)
        return now_s - seen.since_s
