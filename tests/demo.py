"""`make demo`: start everything in a temporary directory, ingest the sample PDFs, ask three questions, stop.

Exit status 0 only if the right page comes first for each question. Deletes everything, except the logs of a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console

from ingestion.hits import Hit
from tests.samples.generate import generate
from workers.commands.documents.search import hit_table

_START_S: Final = 120.0
_INGEST_S: Final = 300.0
_ASK_S: Final = 60.0
_STOP_S: Final = 60.0
_INTERRUPTED: Final = 130
_PAGEMILL: Final = (sys.executable, "-m", "workers.cli")

console = Console(highlight=False)


class DemoFailed(Exception):
    """A step of the demo failed."""


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    document: str
    page: int


QUESTIONS: Final = (
    Question("Which part of the year is the rainiest up there?", "weather-station-charts.pdf", 2),
    Question("How much money did the harbour make from renting out land?", "harbour-annual-report.pdf", 4),
    Question("My bike jumps out of gear when I pedal hard uphill", "householders-handbook.pdf", 55),
)


def main() -> int:
    signal.signal(signal.SIGTERM, _terminate)
    began_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="pagemill-demo-"))
    try:
        right = _run(folder)
    except KeyboardInterrupt:
        console.print("interrupted", style="yellow")
        return _INTERRUPTED
    except (DemoFailed, subprocess.TimeoutExpired) as error:
        console.print(f"failed: {error}", style="red", markup=False)
        console.print(f"logs: {_keep_logs(folder)}", markup=False)
        return 1
    finally:
        shutil.rmtree(folder)
    console.print(f"{right} of {len(QUESTIONS)} right pages first, {time.monotonic() - began_s:.0f} s in all")
    return 0 if right == len(QUESTIONS) else 1


def _run(folder: Path) -> int:
    """Number of questions whose first hit is the right page."""
    samples = folder / "samples"
    samples.mkdir()
    data_dir = folder / "stack"
    with _step("make the sample PDFs"):
        generate(samples)
    with _stack(data_dir):
        with _step("ingest them"):
            _ingest(samples, data_dir)
        with _step("ask three questions"):
            return sum(_ask(question, data_dir) for question in QUESTIONS)


@contextmanager
def _step(title: str) -> Iterator[None]:
    console.print(f"▸ {title}", style="bold")
    began_s = time.monotonic()
    yield
    console.print(f"  {time.monotonic() - began_s:.1f} s", style="dim")


@contextmanager
def _stack(data_dir: Path) -> Iterator[None]:
    """`pagemill up` as a child in its own session, so that Ctrl-C reaches this process only, which stops it."""
    data_dir.mkdir()
    with (data_dir / "up.log").open("wb") as log:
        up = subprocess.Popen(
            [*_PAGEMILL, "up", "--data-dir", str(data_dir), "--workers", "1"],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with _step("start servers, API, embedder and a worker"):
            _wait_ready(up, data_dir)
        yield
    finally:
        with _step("stop"):
            _stop(up)


def _wait_ready(up: subprocess.Popen[bytes], data_dir: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while not (data_dir / "stack.json").exists():
        if up.poll() is not None:
            raise DemoFailed(f"`pagemill up` ended: {(data_dir / 'up.log').read_text(errors='replace')[-2000:]}")
        if time.monotonic() > deadline_s:
            raise DemoFailed(f"the stack was not ready within {_START_S:g} s")
        time.sleep(0.1)


def _stop(up: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and SIGKILL after `_STOP_S`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Only the cleanup remains.
        signal.signal(number, signal.SIG_IGN)
    up.terminate()
    try:
        up.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        up.kill()  # which its children notice
        up.wait()
        raise


def _ingest(samples: Path, data_dir: Path) -> None:
    command = [*_PAGEMILL, "ingest", str(samples), "--wait", "--data-dir", str(data_dir)]
    if subprocess.run(command, check=False, env=_environment(), timeout=_INGEST_S).returncode != 0:
        raise DemoFailed("not every sample became ready")


def _ask(question: Question, data_dir: Path) -> bool:
    """Print the hits. Returns True if the right page is first."""
    hits = [Hit.model_validate(hit) for hit in _search(question.text, data_dir)]
    console.print(f"\n  [bold]“{question.text}”[/bold]")
    console.print(hit_table(hits))
    right = bool(hits) and (hits[0].filename, hits[0].page) == (question.document, question.page)
    verdict = "right" if right else "WRONG: expected"
    console.print(f"  {verdict} {question.document}, page {question.page}", style="green" if right else "red")
    return right


def _search(text: str, data_dir: Path) -> list[dict[str, Any]]:
    command = [*_PAGEMILL, "search", text, "--top-k", "3", "--json", "--data-dir", str(data_dir)]
    answer = subprocess.run(
        command, check=False, env=_environment(), timeout=_ASK_S, stdout=subprocess.PIPE, text=True
    )
    if answer.returncode != 0:
        raise DemoFailed(f"`pagemill search` ended with status {answer.returncode}")
    return [json.loads(line) for line in answer.stdout.splitlines()]


def _environment() -> dict[str, str]:
    """The environment without Pagemill settings, which may belong to another installation."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PAGEMILL_")}


def _keep_logs(folder: Path) -> Path:
    kept = Path(tempfile.mkdtemp(prefix="pagemill-demo-logs-"))
    for log in (*folder.glob("stack/*.log"), *folder.glob("stack/logs/*.log")):
        shutil.copy(log, kept)
    return kept


def _terminate(number: int, frame: object) -> NoReturn:
    """End the demo on SIGTERM like on Ctrl-C, with its cleanup."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
