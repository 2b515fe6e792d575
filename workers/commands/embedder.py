"""`pagemill embedder calibrate`: which PAGEMILL_EMBED_BATCH_PATCHES suits this machine."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestion.model import Page
    from ingestion.settings import EmbedderSettings
    from workers.embedding.calibrate import BatchMeasurement

app = typer.Typer(help="Look into the visual embedder.", no_args_is_help=True)

_GIB: Final = 1024**3
_A4_AT_200_DPI_PX: Final = (2339, 1654)
_COLUMNS: Final = "{:>6} {:>8} {:>11} {:>11} {:>9}"


@app.callback()
def _group() -> None:
    """A group even while there is one command."""


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
