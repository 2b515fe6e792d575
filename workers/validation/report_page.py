"""The checklist's results as an HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from workers.bench import html_page
from workers.bench.html_page import Markup
from workers.validation.checklist import ItemResult


def counts(results: Sequence[ItemResult]) -> str:
    found = Counter(result.finding.status.value for result in results)
    return ", ".join(f"{count} {status}" for status, count in sorted(found.items())) or "nothing checked"


def report_page(results: Sequence[ItemResult], *, target: str, started_at: str) -> str:
    rows = [
        (
            result.item.name,
            html_page.marked(result.finding.status.value, result.finding.status.value),
            result.item.question,
            result.finding.reason,
            f"{result.seconds:.1f}",
        )
        for result in results
    ]
    evidence = [_evidence(result) for result in results if result.finding.evidence]
    return html_page.page(
        "Pagemill validation",
        html_page.paragraph(f"{target}, {started_at}: {counts(results)}"),
        html_page.table(("item", "result", "question", "reason", "seconds"), rows),
        *evidence,
    )


def _evidence(result: ItemResult) -> str:
    rows = [(name.replace("_", " "), _shown(value)) for name, value in result.finding.evidence.items()]
    return html_page.section(f"Evidence: {result.item.name}", html_page.table(("what", "value"), rows))


def _shown(value: object) -> Markup | str:
    return html_page.preformatted(str(value)) if "\n" in str(value) else str(value)
