"""The report of a load test as an HTML page with plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from workers.bench import html_page
from workers.bench.load_report import Latency, LoadReport, pages_per_s
from workers.bench.time_plot import Line, Panel, draw_svg

_MIB: Final = 1024**2
_RATE_WINDOW_S: Final = 10.0


def load_page(report: LoadReport) -> str:
    """Return the page. Raises BadRequest without matplotlib."""
    return html_page.page(
        "Pagemill load test",
        html_page.paragraph(f"{report.target}, {report.started_at}, {report.duration_s:.1f} s"),
        *(
            [html_page.paragraph("Interrupted. The figures were measured before the interruption.")]
            if report.is_interrupted
            else []
        ),
        html_page.section("Figures", html_page.table(("what", "figure"), figure_rows(report))),
        html_page.section("Over time", *plots(report)),
        html_page.section(
            "Files that did not become ready",
            html_page.paragraph("All did.")
            if report.is_good
            else html_page.table(
                ("file", "state", "code", "document"),
                [
                    (one.name, one.state, one.error_code, one.document_id)
                    for one in report.files
                    if one.state != "ready"
                ],
            ),
        ),
    )


def plots(report: LoadReport) -> list[str]:
    """Return the plots as SVG elements, or a note where nothing was measured."""
    return [draw_svg(_panels(report))] if report.samples else [html_page.paragraph("No sample was taken.")]


def figure_rows(report: LoadReport) -> list[tuple[str, str]]:
    """Return the figures as text, for the page and for the terminal."""
    plan = report.plan
    rate = "as fast as they are accepted" if plan.rate_per_s is None else f"{plan.rate_per_s:g} files a second"
    rows = [
        ("plan", f"{plan.files} files of {plan.pages} pages, {plan.concurrency} uploads at a time, {rate}"),
        ("files", ", ".join(f"{count} {state}" for state, count in sorted(report.states.items())) or "none"),
        ("accepted after", _latency(report.accepted)),
        ("ready after", _latency(report.ready)),
        ("pages a second", f"{report.pages_per_s:.2f} ({report.pages_ready} pages ready)"),
        ("most files waiting", str(report.most_backlog)),
        ("most Kafka lag", "not measured: no metrics address" if report.most_lag is None else f"{report.most_lag:g}"),
        ("failures by code", _counts(report.failures)),
        ("error answers by status", _counts(report.error_answers)),
        ("documents of more than one attempt", str(report.retried_documents)),
    ]
    memory = [
        (f"most memory of {name}", f"{rss_bytes / _MIB:.0f} MiB") for name, rss_bytes in report.most_rss_bytes.items()
    ]
    return rows + (memory or [("memory", "not measured: no local stack")])


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "no file"
    shown = {"p50": latency.p50_s, "p95": latency.p95_s, "p99": latency.p99_s, "most": latency.longest_s}
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in shown.items())


def _counts(counts: object) -> str:
    return ", ".join(f"{code}: {count}" for code, count in dict(counts).items()) or "none"  # type: ignore[call-overload]


def _panels(report: LoadReport) -> Sequence[Panel]:
    samples = report.samples
    times = [sample.at_s for sample in samples]
    waiting = [Line("files accepted, not settled", times, [float(sample.backlog) for sample in samples])]
    if lags := [(sample.at_s, sample.lag) for sample in samples if sample.lag is not None]:
        waiting.append(Line("Kafka lag, records", [at_s for at_s, _ in lags], [lag for _, lag in lags]))
    files = report.files
    latencies = [
        Line(
            "accepted",
            [file.due_s for file in files if file.accepted_s is not None],
            [file.accepted_s - file.due_s for file in files if file.accepted_s is not None],
            is_points=True,
        ),
        Line(
            "ready",
            [file.due_s for file in files if file.state == "ready"],
            [(file.settled_s or 0.0) - file.due_s for file in files if file.state == "ready"],
            is_points=True,
        ),
    ]
    panels = [
        Panel(f"pages a second\n(last {_RATE_WINDOW_S:g} s)", [Line("pages", *pages_per_s(samples, _RATE_WINDOW_S))]),
        Panel("waiting", waiting),
        Panel("latency (s)", latencies, x_label="time of the upload (s)"),
    ]
    if report.most_rss_bytes:
        memory = [
            Line(name, times, [sample.rss_bytes.get(name, 0) / _MIB for sample in samples])
            for name in report.most_rss_bytes
        ]
        panels.append(Panel("memory (MiB)", memory))
    return panels
