"""The progress output of `pagemill ingest`: bars on a terminal, lines in a log, or JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from ingestion.client.views import DocumentView
from ingestion.errors import IngestError
from ingestion.model import DocumentState
from workers.commands.terminal import cell, plain, write_json_line

REFUSED: Final = "refused"

# More documents than this, and only those that are being worked on have a bar.
_FEW: Final = 12

_STYLE: Final = {"ready": "green", "failed": "red", REFUSED: "red", "deleted": "yellow"}


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The outcome of a file in `--json`. `error`: {"code", "message"}, and "stage" for a failed document."""

    path: str
    document_id: str | None
    state: str
    pages: int | None
    error: dict[str, str] | None
    is_good: bool

    @classmethod
    def refused(cls, path: Path, error: IngestError) -> UploadResult:
        return cls(str(path), None, REFUSED, None, _shown(path, error), is_good=False)

    @classmethod
    def accepted(cls, path: Path, view: DocumentView) -> UploadResult:
        is_good = view.state is not DocumentState.FAILED
        return cls(str(path), view.document_id, view.state.value, view.pages, None, is_good=is_good)

    @classmethod
    def settled(cls, path: Path, view: DocumentView) -> UploadResult:
        error = view.error.model_dump() if view.error else None
        is_good = view.state is DocumentState.READY
        return cls(str(path), view.document_id, view.state.value, view.pages, error, is_good=is_good)

    @classmethod
    def lost(cls, path: Path, view: DocumentView, error: IngestError) -> UploadResult:
        """Accepted, but how it went on could not be learnt."""
        return cls(str(path), view.document_id, view.state.value, view.pages, _shown(path, error), is_good=False)

    def line(self) -> Text:
        parts = [cell(f"{self.state:<10}", _STYLE.get(self.state, "")), cell(self.path)]
        parts += [cell(f"{self.pages} page{'s' if self.pages > 1 else ''}")] if self.pages else []
        parts += [cell(self.document_id, "dim")] if self.document_id else []
        parts += [cell(f"{self.error['code']}: {self.error['message']}", "red")] if self.error else []
        return Text("  ").join(parts)


def _shown(path: Path, error: IngestError) -> dict[str, str]:
    return {"code": error.code, "message": error.message.removeprefix(f"{path.name}: ")}


class Reporter:
    """Gets the events of each file, in any order. It is a context manager around the whole run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def uploading(self, path: Path) -> None:
        """The file is being sent."""

    def progress(self, path: Path, view: DocumentView) -> None:
        """The document has changed."""

    def ended(self, outcome: UploadResult) -> None:
        """Nothing more will be heard of this file."""


class JsonReporter(Reporter):
    """One object a line for each file, when it has ended."""

    def ended(self, outcome: UploadResult) -> None:
        shown = asdict(outcome)
        del shown["is_good"]
        write_json_line(shown)


class LineReporter(Reporter):
    """One line for each file, when it has ended, and a count of how they ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ended: Counter[str] = Counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._console.print(", ".join(f"{count} {state}" for state, count in sorted(self._ended.items())))

    def ended(self, outcome: UploadResult) -> None:
        self._ended[outcome.state] += 1
        self._console.print(outcome.line(), soft_wrap=True)


class BarReporter(LineReporter):
    """A bar for each document; where they are many, for those being worked on, above a bar for all of them."""

    def __init__(self, console: Console, files: int) -> None:
        super().__init__(console)
        self._files = files
        self._are_few = files <= _FEW
        self._bars: dict[Path, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(max_width=40, no_wrap=True)),
            TextColumn("{task.fields[state]}", markup=False, table_column=Column(min_width=10)),
            BarColumn(),
            TextColumn("{task.fields[pages]}", markup=False, justify="right"),
            TimeElapsedColumn(),
            console=console,
        )
        self._all = self._progress.add_task("all documents", total=files, state="", pages=f"0/{files}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        super().__exit__(kind, error, trace)

    def uploading(self, path: Path) -> None:
        self._bar(path, state="uploading", pages="", total=None)

    def progress(self, path: Path, view: DocumentView) -> None:
        if self._are_few or view.state is DocumentState.PROCESSING:
            pages = f"{view.pages_done}/{view.pages} pages" if view.pages else ""
            self._bar(path, state=view.state.value, pages=pages, completed=view.pages_done, total=view.pages)
        else:
            self._drop(path)

    def ended(self, outcome: UploadResult) -> None:
        self._drop(Path(outcome.path))
        super().ended(outcome)
        self._progress.update(self._all, advance=1, pages=f"{self._ended.total()}/{self._files}")

    def _bar(self, path: Path, *, state: str, pages: str, total: int | None, completed: int = 0) -> None:
        if path not in self._bars:
            self._bars[path] = self._progress.add_task(plain(path.name), state=state, pages=pages)
        bar = self._bars[path]
        self._progress.update(bar, total=total, completed=completed, state=state, pages=pages)

    def _drop(self, path: Path) -> None:
        if path in self._bars:
            self._progress.remove_task(self._bars.pop(path))
