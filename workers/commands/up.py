"""`pagemill up`: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from workers.stack import datadir
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.server_specs import MilvusKind

if TYPE_CHECKING:
    from workers.stack.local import LocalStack

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED: Final = 130


class EmbedderKind(StrEnum):
    LOCAL = "local"
    VISUAL = "visual"
    COLQWEN = "colqwen"


def up(
    data_dir: Annotated[Path, typer.Option(help="Where servers keep their data, logs and stack.json.")] = (
        datadir.DEFAULT
    ),
    workers: Annotated[int, typer.Option(min=0, help="Worker processes.")] = 1,
    embedder: Annotated[
        EmbedderKind, typer.Option(envvar="PAGEMILL_EMBEDDER", help="What pages and queries are embedded with.")
    ] = EmbedderKind.LOCAL,
    milvus: Annotated[
        MilvusKind, typer.Option(help="Milvus Lite, or a real Milvus server, which listens on all interfaces.")
    ] = MilvusKind.LITE,
    kafka: Annotated[
        KafkaKind,
        typer.Option(
            help="Apache Kafka from the folder KAFKA_HOME, the stand-in noida-db, or the given Kafka of the settings. "
            "auto: apache where KAFKA_HOME is set and Java is installed, else noida."
        ),
    ] = KafkaKind.AUTO,
) -> None:
    """Start servers, API, embedder and workers on this machine; Ctrl-C stops them all."""
    from workers.stack.local import LocalStack

    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    stack = LocalStack(
        datadir.DataDir(data_dir),
        workers=workers,
        embedder=embedder,
        report=errors.print,
        milvus=milvus,
        kafka=kafka,
    )
    if asyncio.run(_Session(stack, data_dir).run()):
        raise typer.Exit(_INTERRUPTED)


class _Session:
    """From start to stop, with two signals on the way: the first asks for a stop, the second forces it."""

    def __init__(self, stack: LocalStack, data_dir: Path) -> None:
        self._stack = stack
        self._data_dir = data_dir
        self._stopping = asyncio.Event()
        self._forced = False

    async def run(self) -> bool:
        """Returns whether the stop was forced. Raises StackError where the stack failed by itself."""
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        console = Console(highlight=False)
        work = asyncio.create_task(self._start_and_watch(console))
        stop_asked = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({work, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            stop_asked.cancel()
            work.cancel()
            await asyncio.gather(work, stop_asked, return_exceptions=True)
            with console.status("stopping"):
                await self._stack.stop()
        return self._forced

    async def _start_and_watch(self, console: Console) -> None:
        with console.status("starting"):
            await self._stack.start()
        console.print(_table(self._stack))
        where = "" if self._data_dir == datadir.DEFAULT else f" --data-dir {_quoted(self._data_dir)}"
        lines = (
            "Ready. In another terminal:",
            f"  pagemill ingest FILE --wait{where}",
            f'  pagemill search "a question"{where}',
            "Ctrl-C stops everything.",
        )
        console.print(*lines, sep="\n", markup=False, soft_wrap=True)  # commands to copy stay on one line
        await self._stack.watch()

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._forced = True
            self._stack.kill()
        self._stopping.set()


def _table(stack: LocalStack) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("process")
    table.add_column("pid", justify="right")
    table.add_column("address", overflow="fold")
    for process in stack.processes:
        table.add_row(process.spec.name, str(process.pid), process.spec.address)
    return table


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
