"""`pagemill embedder calibrate` and `report`: what the visual embedder does on this machine."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from workers.embedding_report.plan import LEVER_NAMES, MODEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestion.model import Page
    from ingestion.settings import EmbedderSettings
    from workers.embedding.calibrate import BatchMeasurement

app = typer.Typer(help="Look into the visual embedder.", no_args_is_help=True)

_GIB: Final = 1024**3
_A4_AT_200_DPI_PX: Final = (2339, 1654)
_COLUMNS: Final = "{:>6} {:>8} {:>11} {:>11} {:>9}"


@app.command()
def calibrate(
    largest: Annotated[int, typer.Option(min=1, help="Largest batch to try, in pages.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Batches of each size; the median counts.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per batch size, and no advice.")] = False,
) -> None:
    """Measure batches of A4 pages on the visual embedder as it is configured, twice as many pages each time.

    Nothing else should use the device meanwhile.
    """
    from ingestion.logs import configure
    from ingestion.settings import Settings
    from workers.embedding.calibrate import recommend_batch

    settings = Settings()
    configure(settings.log)
    if not as_json:
        typer.echo(_COLUMNS.format("batch", "patches", "memory GiB", "s per page", "pages/s"))
    measured = []
    for one in _measure(settings.embedder, largest, repeats):
        measured.append(one)
        typer.echo(json.dumps(dataclasses.asdict(one)) if as_json else _row(one))
    best = recommend_batch(measured)
    if best is None:
        typer.echo("not even one page fits the memory", err=True)
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"\nPAGEMILL_EMBED_BATCH_PATCHES={best.patches} is as fast as larger batches, within 3 %.")


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder for report.md, report.json, two plots and the logs.")],
    model: Annotated[
        str, typer.Option(help="A family, whose network is made at its published size; or the folder of a checkpoint.")
    ] = "colqwen2",
    minutes: Annotated[float, typer.Option(min=0.1, help="How long it may take.")] = 8.0,
    precision: Annotated[list[str], typer.Option(help="nf4, bf16 or fp32; repeat it for several.")] = ["bf16", "nf4"],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    levers: Annotated[str, typer.Option(help=f"Measure these too, comma separated: {', '.join(LEVER_NAMES)}.")] = "",
    largest: Annotated[int, typer.Option(min=1, help="Largest batch to try, in pages.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Batches of each size; the median counts.")] = 3,
) -> None:
    """Measure the visual embedder on this machine's GPU, with random weights and without a network.

    Nothing else should use the device meanwhile. Needs memory on disk for the weights: 4.4 GB for ColQwen2.
    """
    from ingestion.errors import BadRequest, EmbedderMissing
    from workers.embedding_report.plan import Options
    from workers.embedding_report.runner import make_report

    chosen = tuple(filter(None, (name.strip() for name in levers.split(","))))
    if unknown := [name for name in chosen if name not in LEVER_NAMES]:
        raise BadRequest(f"there is no lever {unknown[0]!r}; there are {', '.join(LEVER_NAMES)}")
    if model not in MODEL_NAMES and not Path(model).is_dir():
        raise BadRequest(f"{model!r} is neither a folder nor one of {', '.join(MODEL_NAMES)}")
    if importlib.util.find_spec("torch") is None:
        raise EmbedderMissing("the report needs torch: pip install 'pagemill[visual]', and a torch built for CUDA")
    options = Options(model, device, tuple(precision), chosen, largest, repeats)
    findings = make_report(options, out, minutes, typer.echo)
    typer.echo(f"written: {out / 'report.md'}")
    if not any("figures" in found for step in precision for found in findings.get(step, {}).values()):
        raise typer.Exit(1)


def _measure(settings: EmbedderSettings, largest: int, repeats: int) -> Iterator[BatchMeasurement]:
    from workers.embedding.calibrate import GpuMemory, ProcessMemory, measure_batches
    from workers.embedding.visual.loading import load_model

    # Pooling is the CPU's work and runs beside the next batch.
    model = load_model(settings.model_copy(update={"token_pooling": 1})).model
    device = model.network.device
    memory = GpuMemory(device) if device.type == "cuda" else ProcessMemory()
    sizes = [2**power for power in range(largest.bit_length())]
    return measure_batches(model, _page(), sizes=sizes, repeats=repeats, memory=memory)


def _page() -> Page:
    """Its size decides what it costs; what it shows does not."""
    import numpy as np

    from ingestion.model import Page

    height_px, width_px = _A4_AT_200_DPI_PX
    return Page(1, width_px, height_px, b"", "", np.full((height_px, width_px, 3), 255, np.uint8))


def _row(one: BatchMeasurement) -> str:
    if one.seconds is None:
        return _COLUMNS.format(one.items, one.patches, "too much", "", "")
    return _COLUMNS.format(
        one.items,
        one.patches,
        f"{one.memory_bytes / _GIB:.2f}",
        f"{one.seconds / one.items:.4f}",
        f"{one.items_per_s:.2f}",
    )
