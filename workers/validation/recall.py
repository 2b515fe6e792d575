"""Search with effort `balanced` against `exhaustive`, which scores every page exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ingestion.effort import Effort
from ingestion.hits import Hit
from ingestion.search_mode import SearchMode
from workers.validation.context import Context
from workers.validation.finding import Finding, judged, skipped

_HITS: Final = 10
_QUERIES: Final = 30
_TOLERANCE: Final = 1e-4
"""Relative. Pages of the same score are equally good."""


async def recall_of_exact(context: Context) -> Finding:
    if not context.subjects:
        await context.ingest("to-be-found", 12)
    queries = _queries(list(context.subjects.values()))
    pages = sum(map(len, context.subjects.values()))
    if pages < _HITS:
        return skipped(f"{pages} pages are too few to compare the first {_HITS}")
    found = right_first = 0.0
    for query in queries:
        exact = await _hits(context, query, Effort.EXHAUSTIVE)
        balanced = await _hits(context, query, Effort.BALANCED)
        found += recall(exact, balanced)
        right_first += bool(balanced) and _page(balanced[0]) == _page(exact[0])
    share = found / len(queries)
    problems = [f"recall is {share:.4f}, below {context.limits.recall:g}"] if share < context.limits.recall else []
    return judged(
        problems,
        f"{share:.1%} of the first {_HITS} pages by exact scores are found",
        recall=round(share, 4),
        same_first_page=round(right_first / len(queries), 4),
        queries=len(queries),
        pages=pages,
    )


async def _hits(context: Context, query: str, effort: Effort) -> Sequence[Hit]:
    """By meaning: a search for words has no effort."""
    return (await context.api.answer(context.collection, query, _HITS, effort, SearchMode.SEMANTIC)).hits


def recall(exact: Sequence[Hit], found: Sequence[Hit]) -> float:
    """Return the share of the exact hits that `found` has. A page with the score of the last exact hit counts too."""
    if not exact:
        return 1.0
    worst = exact[-1].score - _TOLERANCE * abs(exact[-1].score)
    wanted = {_page(hit) for hit in exact}
    right = sum(_page(hit) in wanted or hit.score >= worst for hit in found[: len(exact)])
    return right / len(exact)


def _page(hit: Hit) -> tuple[str, int]:
    return hit.document_id, hit.page


def _queries(subjects: Sequence[Sequence[str]]) -> list[str]:
    """Return subjects of pages, evenly spaced over all documents."""
    every = [subject for of_document in subjects for subject in of_document]
    taken = min(_QUERIES, len(every))
    return [every[number * len(every) // taken] for number in range(taken)]
