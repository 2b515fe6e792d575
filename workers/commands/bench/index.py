"""The work and the output of `pagemill bench index`."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
from rich import box
from rich.console import Console
from rich.table import Table

from ingestion.adapters.milvus.scratch_index import ScratchIndex
from ingestion.bootstrap import Services
from ingestion.errors import BadRequest
from ingestion.model import Vectors, check_qualified
from ingestion.settings import Settings
from ingestion.vectors.encoding import VectorEncoding
from workers.bench.grid import Built, Grid, Searched, measure
from workers.bench.memory import milvus_rss_bytes
from workers.bench.plot import require_matplotlib, save_plot
from workers.bench.sample import Sample, hold_out, read_pages, sample_of
from workers.commands.installation import open_installation
from workers.commands.terminal import cell, say, stdout, write_json_line
from workers.runtime.watchdog import exit_within
from workers.stack import datadir

_MIB: Final = 1024**2
_EXIT_S: Final = 45.0
"""A command that does not end by then writes where its threads are, and exits. The next run drops its index."""
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command line."""

    collection: str
    grid: Grid
    pages: int
    queries: int
    questions: Path | None
    plot: Path | None
    as_json: bool
    data_dir: Path | None


def run(request: Request) -> None:
    """Measure and print. Raises BadRequest, IndexUnsupported, DependencyUnavailable."""
    check_qualified(request.collection)
    if request.plot is not None:
        require_matplotlib()
    questions = [] if request.questions is None else _lines(request.questions)[: request.queries]
    sample = anyio.run(_read, request, questions)
    settings = Settings()  # of the stack, where one was found
    if not settings.milvus.index_type.startswith("HNSW"):
        raise BadRequest(
            f"M, efConstruction and ef are parameters of HNSW and HNSW_SQ, not of PAGEMILL_INDEX_TYPE="
            f"{settings.milvus.index_type}"
        )
    stack = datadir.DataDir(request.data_dir or datadir.DEFAULT).read_stack()
    if not request.as_json:
        _say_what(request, settings, sample)
    measured: list[Built] = []
    try:
        with _stopped_as_interrupted() as stop, ScratchIndex(settings.milvus, sample.dim, stop.check) as scratch:
            points = measure(scratch, sample, request.grid, settings.milvus, lambda: milvus_rss_bytes(stack))
            for point in _shown(points, request.grid):
                measured.append(point)
                stop.check()
                if request.as_json:
                    write_json_line(_as_json(point, sample))
    finally:  # an interrupted command still shows the indexes that it has measured
        if measured and not request.as_json:
            stdout().print(_table(measured))
    if request.plot is not None:
        save_plot(measured, f"{settings.milvus.index_type}, {sample.rows} rows of {sample.dim}", request.plot)


async def _read(request: Request, questions: Sequence[str]) -> Sample:
    async with open_installation(request.data_dir) as services:
        pages = await read_pages(services.documents, services.blobs, request.collection, request.pages)
        if not questions:
            pages, queries = hold_out(pages, request.queries)
        else:
            queries = await _embedded(services, request.collection, questions)
        chosen = services.settings.vectors
        return sample_of(pages, queries, VectorEncoding(chosen.index_pooling, chosen.blob_precision))


async def _embedded(services: Services, collection: str, questions: Sequence[str]) -> list[Vectors]:
    bound = await services.documents.binding(collection)
    if bound is None:
        raise BadRequest(f"collection {collection!r} has no vectors")
    embedder = await services.embedder.for_fingerprint(bound.current.fingerprint)
    return await embedder.embed_queries(questions)


def _lines(questions: Path) -> list[str]:
    lines = [line for line in questions.read_text().splitlines() if line.strip()]
    if not lines:
        raise BadRequest(f"{questions} holds no question")
    return lines


@dataclass(slots=True)
class _StopRequest:
    """A request to stop, noted by a signal handler and obeyed before the next request to Milvus.

    The handler does not raise: in a callback of a library the exception would be lost, and in a request gRPC would
    never close its channel.
    """

    is_asked: bool = False

    def __call__(self, number: int, frame: object) -> None:
        if not self.is_asked:
            exit_within(_EXIT_S)
        self.is_asked = True

    def check(self) -> None:
        """Raises KeyboardInterrupt after a request to stop."""
        if self.is_asked:
            raise KeyboardInterrupt


@contextmanager
def _stopped_as_interrupted() -> Iterator[_StopRequest]:
    """All requests to stop end the command as Ctrl-C does, so that nothing stays on the server."""
    stop = _StopRequest()
    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shown(points: Iterator[Built], grid: Grid) -> Iterator[Built]:
    """The same points, with a line on standard error about the one that is being measured."""
    with Console(stderr=True).status("inserting") as status:
        for number, point in enumerate(points, 1):
            status.update(f"{number} of {grid.builds} indexes measured")
            yield point


def _say_what(request: Request, settings: Settings, sample: Sample) -> None:
    asked = "held-out pages" if request.questions is None else str(request.questions)
    tokens = sum(map(len, sample.queries))
    say(
        cell(f"{settings.milvus.index_type} over {sample.rows} rows of {sample.dim} dimensions,"),
        cell(f"{len(sample.pages)} pages of {request.collection};"),
        cell(f"{len(sample.queries)} queries, {tokens} vectors, of {asked}"),
    )


def _as_json(point: Built, sample: Sample) -> dict[str, Any]:
    return {**dataclasses.asdict(point), "rows": sample.rows, "dim": sample.dim}


def _table(measured: Sequence[Built]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption="Server: growth of its resident memory. Index: computed.")
    for column in ("M", "efConstruction", "build s", "server MiB", "index MiB", "ef", "recall@10", "p50 ms", "p95 ms"):
        table.add_column(column, justify="right")
    for point in measured:
        for number, searched in enumerate(point.searched):
            table.add_row(*(_of_index(point) if number == 0 else [""] * 5), *_of_search(searched))
    return table


def _of_index(point: Built) -> list[str]:
    grown = "" if point.memory_bytes is None else f"{point.memory_bytes / _MIB:.1f}"
    return [
        str(point.m),
        str(point.ef_construction),
        f"{point.build_s:.2f}",
        grown,
        f"{point.index_bytes / _MIB:.1f}",
    ]


def _of_search(searched: Searched) -> list[str]:
    return [str(searched.ef), f"{searched.recall:.3f}", f"{searched.p50_ms:.1f}", f"{searched.p95_ms:.1f}"]
