"""`pagemill plan`: what an installation needs for a number of pages a day."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from workers.commands.terminal import cell, say, stdout, write_json_line
from workers.planning import capacity, figures
from workers.planning.figures import Figure, Gpu

_GB = 1e9


def plan(
    pages_a_day: Annotated[float, typer.Option("--pages-a-day", min=1, help="Pages that come in on a day.")],
    gpu: Annotated[Gpu, typer.Option("--gpu", help="The kind of GPU, one for each worker.")],
    peak_factor: Annotated[float, typer.Option(min=1, help="The busiest hour, in mean hours.")] = 3.0,
    gpu_pages_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Pages a second on one GPU, measured. Default: an assumption.")
    ] = None,
    utilisation: Annotated[float, typer.Option(min=0.1, max=1, help="Most use of the devices at the peak.")] = 0.8,
    searchable_days: Annotated[
        float, typer.Option("--searchable-days", min=0, help="Days after which collections are archived.")
    ] = 30.0,
    kept_days: Annotated[float, typer.Option("--kept-days", min=0, help="Days after which they are dropped.")] = 365.0,
    pages_per_document: Annotated[float, typer.Option(min=1, help="Mean pages of a document.")] = (
        figures.PAGES_PER_DOCUMENT.value
    ),
    index_pooling: Annotated[int, typer.Option(min=1, max=32, help="PAGEMILL_INDEX_POOLING.")] = 8,
    gpu_usd_per_hour: Annotated[float | None, typer.Option(min=0, help="Price of one GPU.")] = None,
    show_figures: Annotated[bool, typer.Option("--figures", help="Also show the figures and their sources.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Plan replicas, partitions, memory, bytes and costs from measured figures. Assumptions are named as such."""
    demand = capacity.Demand(
        pages_a_day=pages_a_day,
        gpu=gpu,
        peak_factor=peak_factor,
        gpu_pages_per_s=gpu_pages_per_s,
        utilisation=utilisation,
        searchable_days=searchable_days,
        kept_days=kept_days,
        pages_per_document=pages_per_document,
        index_pooling=index_pooling,
        gpu_usd_per_hour=gpu_usd_per_hour,
    )
    made = capacity.plan(demand)
    if as_json:
        write_json_line({**dataclasses.asdict(made), "gpu_pages_per_s": demand.device_pages_per_s})
        return
    stdout().print(_table(_rows(made)))
    for note in made.notes:
        say(cell(note))
    if show_figures:
        stdout().print(_figures())


def _rows(made: capacity.Plan) -> list[tuple[str, str]]:
    demand = made.demand
    kind = "measured" if demand.gpu_pages_per_s else "assumed"
    total_usd = sum(cost.usd_a_month for cost in made.costs)
    return [
        (
            "pages a second: mean, peak",
            f"{demand.peak_pages_per_s / demand.peak_factor:.2f}, {demand.peak_pages_per_s:.2f}",
        ),
        (f"pages a second on one {demand.gpu.value} ({kind})", f"{demand.device_pages_per_s:.2f}"),
        ("replicas, one GPU each", str(made.replicas)),
        ("partitions of the jobs topic", str(made.partitions)),
        ("use of the devices, for uneven documents", f"{made.spread:.0%}"),
        ("cores: workers, Milvus, MongoDB, S3", ", ".join(f"{cores:.1f}" for cores in _cores(made))),
        ("memory of the workers", _gb(made.worker_memory_bytes)),
        (f"pages searchable for {demand.searchable_days:g} days", f"{demand.searchable_pages:,.0f}"),
        ("memory of Milvus", _gb(made.milvus_memory_bytes)),
        ("bytes in MongoDB (assumed)", _gb(made.mongo_bytes)),
        (f"pages kept for {demand.kept_days:g} days", f"{demand.kept_pages:,.0f}"),
        ("bytes in the object store", _gb(made.object_bytes)),
        ("sign codes in the memory of an API process", _gb(made.api_code_bytes)),
        *((f"USD a month: {cost.what} (assumed)", f"{cost.usd_a_month:,.0f}") for cost in made.costs),
        ("USD a month: all of it (assumed)", f"{total_usd:,.0f}"),
    ]


def _cores(made: capacity.Plan) -> tuple[float, ...]:
    return made.worker_cores, made.milvus_cores, made.mongo_cores, made.s3_cores


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / _GB:,.1f} GB"


def _table(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column("", overflow="fold")
    table.add_column("", justify="right")
    for what, value in rows:
        table.add_row(cell(what), cell(value))
    return table


def _figures() -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("figure", "value", "unit", "source"):
        table.add_column(column, overflow="fold")
    for name, figure in vars(figures).items():
        if isinstance(figure, Figure):
            table.add_row(cell(name.lower()), f"{figure.value:g}", cell(figure.unit), cell(figure.source))
    return table
