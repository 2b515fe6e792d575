"""How much work a search does in each stage, by its effort and by the size of the collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingestion.effort import Effort
from ingestion.settings import SearchSettings

_SCORED_FOR_EACH_HIT: Final = 2
"""So many pages are scored exactly for each hit that is asked for, where that is more than the setting."""
_FAST_SHARE: Final = 2
_REFINED_FOR_EACH_SCORED: Final = 4
_LEAST_ROWS: Final = 200
LEAST_COST_ROWS: Final = 200
"""The cost of each token in the cheapest search."""
_PAGES_OF_ROW_LIMIT: Final = 10_000
"""PAGEMILL_SEARCH_ANN_LIMIT is for a collection of so many pages."""
_PAGES_FOR_A_ROW: Final = 16
"""Ranking this many pages by their sign codes counts as one row. With the default limit, 38 searches of four tokens
are admitted to a collection of 9,216 pages at a time."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """`scans`: the sign codes of all pages are ranked. Otherwise the index shows pages by `ann_limit` rows for each
    query token; it also does where a document has no sign codes.

    `refined_pages` of the pages that sign codes rank best are ranked with more planes, and `scored_pages` of those are
    scored exactly.
    """

    top_k: int
    scans: bool
    ann_limit: int
    refined_pages: int
    scored_pages: int
    cost_rows: int
    """The cost for each token, as rows of the ANN index: see `Admission`."""


def plan_search(effort: Effort, top_k: int, pages: int, bytes_of_codes: int, settings: SearchSettings) -> SearchPlan:
    """The plan for a collection of about `pages` pages, whose sign codes take about `bytes_of_codes`."""
    share = _FAST_SHARE if effort is Effort.FAST else 1
    scored = max(settings.search_candidates // share, _SCORED_FOR_EACH_HIT * top_k)
    scans = pages <= settings.search_scan_pages and bytes_of_codes <= settings.search_code_cache_bytes
    limit = max(_LEAST_ROWS, _rows_for(pages, settings) // share)
    cost = max(LEAST_COST_ROWS, pages // _PAGES_FOR_A_ROW if scans else limit)
    return SearchPlan(top_k, scans, limit, _REFINED_FOR_EACH_SCORED * scored, scored, cost)


def _rows_for(pages: int, settings: SearchSettings) -> int:
    """The rows for each token grow with the collection: its pages share the rows."""
    return min(settings.search_ann_limit_max, settings.search_ann_limit * pages // _PAGES_OF_ROW_LIMIT)
