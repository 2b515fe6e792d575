"""One step of a report, in a process of its own: `python -m workers.embedding_report.child`.

Writes a line of JSON for each section that has ended, so that a crash or the end of the time leaves the others.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog
import torch

from ingestion.logs import configure
from ingestion.settings import LogSettings
from workers.embedding_report import model_sections, stream_sections
from workers.embedding_report.architectures import ARCHITECTURES
from workers.embedding_report.checkpoint import write_random_checkpoint
from workers.embedding_report.context import Context, Deadline
from workers.embedding_report.levers import levers
from workers.embedding_report.machine import describe, matrix_rate
from workers.embedding_report.plan import Options, Section, Step, share_s

log = structlog.get_logger(__name__)

SECTIONS: Final[dict[Section, Callable[[Context, Deadline], dict[str, Any]]]] = {
    Section.LOAD: model_sections.load,
    Section.SELF_TEST: model_sections.self_test,
    Section.BATCHES: model_sections.batches,
    Section.MEMORY: model_sections.out_of_memory,
    Section.BATCHER: stream_sections.batcher,
    Section.LOOP: stream_sections.obvious_loop,
    Section.QUERIES: stream_sections.queries_beside,
    Section.WORKER: stream_sections.worker,
    Section.LEVERS: levers,
}

Line = dict[str, Any]


def run_step(step: Step, options: Options, folder: Path, seconds: float) -> Iterator[Line]:
    """A line for each section: its name, and its figures or its error, and the seconds it took.

    `folder`: where the machine's step writes random weights, and the others read them.
    """
    yield from _machine(options, folder) if not step.precision else _model(step, options, folder, seconds)


def _machine(options: Options, folder: Path) -> Iterator[Line]:
    device = device_of(options)
    yield _line("machine", lambda: describe(device))
    yield _line("matrix_rate", lambda: {"bf16_operations_per_s": matrix_rate(device)})
    if options.is_random:
        yield _line("checkpoint", lambda: _checkpoint(options.model, folder))


def _checkpoint(name: str, folder: Path) -> dict[str, Any]:
    return {"parameters": write_random_checkpoint(ARCHITECTURES[name], folder)}


def _model(step: Step, options: Options, folder: Path, seconds: float) -> Iterator[Line]:
    context = Context(options, step.precision, folder, device_of(options))
    whole = Deadline.after(seconds)
    sections = options.sections
    for number, section in enumerate(sections):
        if whole.is_past and section is not Section.LOAD:
            yield {"section": section.value, "error": "no time was left"}
            continue
        deadline = Deadline.after(share_s(section, sections[number + 1 :], whole.left_s))
        yield _line(section.value, lambda run=SECTIONS[section], until=deadline: run(context, until))  # type: ignore[misc]


def _line(section: str, run: Callable[[], dict[str, Any]]) -> Line:
    began = time.perf_counter()
    try:
        found = {"figures": _finite(run())}
    except Exception as error:  # the report names it, and the next section follows
        log.exception("section failed", section=section)
        found = {"error": f"{type(error).__name__}: {error}"}
    return {"section": section, **found, "seconds": round(time.perf_counter() - began, 2)}


def _finite(value: Any) -> Any:
    """JSON knows no infinity."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def device_of(options: Options) -> torch.device:
    """Initialises CUDA: statistics of its memory are an error before that."""
    is_automatic = options.device == "auto"
    name = ("cuda" if torch.cuda.is_available() else "cpu") if is_automatic else options.device
    device = torch.device(name)
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
    return device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="")
    parser.add_argument("--options", type=json.loads, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    configure(LogSettings(log_level="warning", log_format="json"))
    for line in run_step(Step(given.precision), Options.of(given.options), given.folder, given.seconds):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
