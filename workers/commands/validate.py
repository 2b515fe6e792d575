"""`pagemill validate`: the checklist before production, against a running system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    only: Annotated[list[str], typer.Option("--only", help="Run this item. May be repeated.")] = [],  # noqa: B006
    weekly: Annotated[bool, typer.Option("--weekly", help="Run the weekly checks instead.")] = False,
    monthly: Annotated[bool, typer.Option("--monthly", help="Run the monthly checks instead.")] = False,
    list_items: Annotated[bool, typer.Option("--list", help="List the items and run none.")] = False,
    files: Annotated[int, typer.Option(min=1, max=100, help="Files of the load item.")] = 10,
    pages: Annotated[int, typer.Option(min=1, max=1000, help="Pages of each of these files.")] = 50,
    min_pages_per_s: Annotated[float, typer.Option(min=0, help="Least throughput of the load item.")] = 0.5,
    max_lag: Annotated[float, typer.Option(min=0, help="Most Kafka lag of the load item, in records.")] = 1000.0,
    max_memory_mib: Annotated[int, typer.Option(min=1, help="Most memory of one process in the load item.")] = 4096,
    min_recall: Annotated[float, typer.Option(min=0, max=1, help="Least recall of the exact result.")] = 0.95,
    metrics: Annotated[
        list[str], typer.Option("--metrics", help="Address of a worker's /metrics. May be repeated.")
    ] = [],  # noqa: B006
    prometheus: Annotated[str | None, typer.Option(help="Address of Prometheus.")] = None,
    grafana: Annotated[str | None, typer.Option(help="Address of Grafana, with user and password if needed.")] = None,
    alerts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Rule file whose alerts Prometheus must have.")
    ] = None,
    destructive: Annotated[
        bool,
        typer.Option(
            "--destructive", help="Run the items that disturb servers on other systems than a local stack too."
        ),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results as JSON.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write the results as an HTML page.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."
        ),
    ] = None,
) -> None:
    """Check a running system: each item is passed, failed or skipped, with the reason and the evidence.

    The run has collections of its own, which it deletes. Exit status 0 only if no item failed.
    """
    from workers.commands.validation import ValidationRequest, list_all, run
    from workers.validation.context import Limits

    if list_items:
        list_all()
        return
    status = run(
        ValidationRequest(
            limits=Limits(files, pages, min_pages_per_s, max_lag, max_memory_mib * 1024**2, min_recall),
            only=only,
            weekly=weekly,
            monthly=monthly,
            metrics=metrics,
            prometheus=prometheus,
            grafana=grafana,
            alerts=alerts,
            is_destructive=destructive,
            json_file=json_file,
            html_file=html_file,
            data_dir=data_dir,
        )
    )
    if status:
        raise typer.Exit(status)
