"""`pagemill bench`: measure this installation on its own data.

The work is imported when a command runs, so that other commands start fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.commands.tenant_option import TenantOption, qualified

app = typer.Typer(help="Measure this installation on its own data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group even while there is one command."""


@app.command()
def index(
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to measure.")],
    tenant: TenantOption = None,
    m: Annotated[list[int], typer.Option("--m", min=2, max=2048, help="HNSW's M. May be repeated.")] = [8, 16, 32, 64],  # noqa: B006
    ef_construction: Annotated[
        list[int], typer.Option("--ef-construction", min=1, help="HNSW's efConstruction. May be repeated.")
    ] = [100, 300, 500, 1000],  # noqa: B006
    ef: Annotated[list[int], typer.Option("--ef", min=10, help="HNSW's search ef. May be repeated.")] = [  # noqa: B006
        16,
        64,
        128,
        256,
    ],
    pages: Annotated[
        int, typer.Option(min=2, help="The maximum number of pages, evenly spaced over the collection.")
    ] = 200,
    queries: Annotated[int, typer.Option(min=1, help="The maximum number of queries.")] = 50,
    questions: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A question per line, for the embedding service; else pages held out."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also write a plot (PNG). Needs the extra `plot`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON line for each index.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."
        ),
    ] = None,
) -> None:
    """Build an index for each M and efConstruction and ask it with each ef: time, recall, memory.

    The vectors are those of the collection's pages, pooled as PAGEMILL_INDEX_POOLING says; the index is one of its
    own on the same Milvus, gone afterwards. Nothing else should use the server meanwhile.
    """
    from workers.bench.grid import Grid
    from workers.commands.bench.index import Request, run

    run(
        Request(
            collection=qualified(tenant, collection),
            grid=Grid(m, ef_construction, ef),
            pages=pages,
            queries=queries,
            questions=questions,
            plot=plot,
            as_json=as_json,
            data_dir=data_dir,
        )
    )


@app.command()
def load(
    files: Annotated[int, typer.Option(min=1, help="Files to upload.")] = 20,
    pages: Annotated[int, typer.Option(min=1, max=10_000, help="Pages of each file.")] = 10,
    concurrency: Annotated[int, typer.Option(min=1, max=400, help="Uploads at a time.")] = 4,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Files begun in a second. Default: as fast as they are accepted.")
    ] = None,
    limit_s: Annotated[float, typer.Option(min=1, help="The run ends after so many seconds.")] = 1800.0,
    report: Annotated[
        Path | None, typer.Option(help="Also write an HTML page with plots. Needs the extra `plot`.")
    ] = (None),
    metrics: Annotated[
        list[str], typer.Option("--metrics", help="Address of a worker's /metrics, for the lag. May be repeated.")
    ] = [],  # noqa: B006
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Allow more than 2,000 pages.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collection that the run has filled.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Data directory of a running stack. Default: ./.pagemill, or else the settings."
        ),
    ] = None,
) -> None:
    """Upload PDFs made for the purpose and follow each to its end: latency, pages a second, lag, failures, memory.

    The run has a collection of its own, which it deletes at its end. Exit status 0 only if every file became ready.
    """
    from workers.bench.load import LoadPlan
    from workers.commands.bench.load import LoadRequest, run

    status = run(
        LoadRequest(
            plan=LoadPlan(files, pages, concurrency, rate, limit_s),
            report=report,
            metrics=metrics,
            as_json=as_json,
            is_confirmed=yes,
            keep=keep,
            data_dir=data_dir,
        )
    )
    if status:
        raise typer.Exit(status)
