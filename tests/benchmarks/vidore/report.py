"""The figures of a run: one for each embedder precision, stored form of vectors, and ranking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.vidore.dataset import JudgedQuery, VidoreDataset
from tests.benchmarks.vidore.ndcg import ndcg
from tests.benchmarks.vidore.ranking import Rankings

CUTS: Final = (5, 10)
_LANGUAGE_CUT: Final = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """`ndcg`: by cut, the mean over all queries. `by_language`: nDCG@10 of the queries in each language."""

    precision: str
    vectors: str
    ranking: str
    ndcg: dict[str, float]
    by_language: dict[str, float]
    query_ms: float | None
    page_s: float | None
    embed_query_ms: float


def figures_of(
    precision: str,
    vectors: str,
    ranking: str,
    found: Rankings,
    queries: Sequence[JudgedQuery],
    *,
    page_s: float | None,
    embed_query_s: float,
) -> Figures:
    pairs = list(zip(queries, found.by_query, strict=True))

    def mean(cut: int, language: str | None = None) -> float:
        of = [ndcg(ranked, query.relevance, cut) for query, ranked in pairs if language in (None, query.language)]
        return round(sum(of) / len(of), 4)

    languages = sorted({query.language for query in queries})
    return Figures(
        precision,
        vectors,
        ranking,
        {str(cut): mean(cut) for cut in CUTS},
        {language: mean(_LANGUAGE_CUT, language) for language in languages} if len(languages) > 1 else {},
        None if found.seconds is None else round(1000 * found.seconds, 2),
        None if page_s is None else round(page_s, 4),
        round(1000 * embed_query_s, 2),
    )


class Results:
    """The figures in a file of JSON lines: a run that was ended keeps them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.figures = [Figures(**json.loads(line)) for line in lines]

    def add(self, figures: Figures) -> None:
        self.figures.append(figures)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(figures)) + "\n")

    def has(self, precision: str, vectors: str, ranking: str) -> bool:
        return any((one.precision, one.vectors, one.ranking) == (precision, vectors, ranking) for one in self.figures)


def text_of(dataset: VidoreDataset, figures: Sequence[Figures]) -> str:
    """Markdown."""
    languages = list(figures[0].by_language) if figures else []
    heads = ["precision", "vectors", "ranking", *(f"nDCG@{cut}" for cut in CUTS)]
    heads += [f"nDCG@{_LANGUAGE_CUT} {language}" for language in languages]
    heads += ["search p50 ms", "query embedded p50 ms", "ingest s a page"]
    lines = [
        f"{dataset.name}: {len(dataset.page_ids)} pages, {len(dataset.queries)} queries "
        f"in {', '.join(filter(None, dataset.languages)) or 'one language'}",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for one in figures:
        cells = [one.precision, one.vectors, one.ranking, *(f"{one.ndcg[str(cut)]:.3f}" for cut in CUTS)]
        cells += [f"{one.by_language[language]:.3f}" for language in languages]
        cells += [_number(one.query_ms), _number(one.embed_query_ms), _number(one.page_s)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
