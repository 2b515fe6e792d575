"""Makes a report: runs its steps one after another, each in a child process, and writes what they have found."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ingestion.errors import BadRequest
from workers.embedding_report.document import write_document
from workers.embedding_report.plan import Options, Step, checkpoint_folder, steps_of

_GRACE_S: Final = 20.0
_GRACE_SHARE: Final = 0.2
"""A section looks at the time between two measurements: so much of a step's time is left for the last one, but not
more than _GRACE_S."""
_CHILD: Final = (sys.executable, "-m", "workers.embedding_report.child")

Echo = Callable[[str], None]
Findings = dict[str, dict[str, Any]]
"""The lines of each section, by step and section."""


def make_report(options: Options, out: Path, minutes: float, echo: Echo, child: Sequence[str] = _CHILD) -> Findings:
    """Write report.md, report.json and the plots into `out`. Takes `minutes`, and seconds more at most.

    A section that fails, or that time has run out for, is named with its cause. Raises BadRequest where `out` cannot
    be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").touch()
    except OSError as error:
        raise BadRequest(f"{out} cannot be written to: {error}") from error
    is_random = options.is_random
    folder = (checkpoint_folder(out) if is_random else Path(options.model)).resolve()
    ends_at_s = time.monotonic() + 60 * minutes
    findings: Findings = {}
    steps = steps_of(options)
    try:
        for number, step in enumerate(steps):
            left_s = max(1.0, ends_at_s - time.monotonic())
            # The first step takes as long as the weights take to be written; the others share what is left.
            seconds = left_s if number == 0 else left_s / (len(steps) - number)
            echo(f"{step.name}: {seconds:.0f} s")
            findings[step.name] = _run(step, options, folder, seconds, out, echo, child)
            write_document(options, findings, out)  # a report that is cut off has what was found
    finally:
        if is_random:
            shutil.rmtree(folder, ignore_errors=True)
    return findings


def _run(
    step: Step, options: Options, folder: Path, seconds: float, out: Path, echo: Echo, child: Sequence[str]
) -> dict[str, Any]:
    arguments = ["--precision", step.precision, "--options", json.dumps(options.as_json()), "--folder", str(folder)]
    lines: dict[str, Any] = {}
    with (out / f"{step.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*child, *arguments, "--seconds", f"{seconds - min(_GRACE_S, _GRACE_SHARE * seconds):.1f}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        was_ended = threading.Event()
        timer = threading.Timer(seconds, _end, (process, was_ended))
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                found = _decoded(line)
                if found is not None:
                    lines[found["section"]] = found
                    echo(f"  {found['section']}: {found.get('error') or 'measured'}")
            status = process.wait()
        finally:
            timer.cancel()
            _end(process, threading.Event())
    wanted = step.sections(options)
    cause = (
        f"the time was over: the step was ended after {seconds:.0f} s"
        if was_ended.is_set()
        else (f"the step's process ended with status {status}; see {step.name}.log")
    )
    return {section: lines.get(section, {"section": section, "error": cause}) for section in [*wanted, *lines]}


def _decoded(line: bytes) -> dict[str, Any] | None:
    """None where a library has written something else to standard output."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "section" in found else None


def _end(process: subprocess.Popen[bytes], was_ended: threading.Event) -> None:
    """Kill the child and the render children that it has started."""
    if process.poll() is None:
        was_ended.set()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
