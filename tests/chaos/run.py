"""`make chaos`: run every scenario, one after another, and print one table.

    python -m tests.chaos.run [--short] [--only NAME]...

Exit status 1 if an invariant or an expectation failed. Starts its own servers, unless PAGEMILL_TEST_STACK names the
stack.json of running ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from tests.chaos.catalogue import LONG, NEED_APACHE, SHORT, Scenario
from tests.chaos.experiment import Experiment
from workers.stack import kafka_kinds
from workers.stack.datadir import DataDir
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.servers import LocalServers
from workers.stack.stack_file import environment_of

_COUNTS: Final = {
    "documents": "documents",
    "ready": "ready",
    "letters": "failed",
    "lost": "lost",
    "missing": "missing",
    "twice": "duplicate",
    "orphans": "orphan",
    "damaged": "damaged",
    "stranded": "stranded",
    "starts again": "extra_starts",
    "attempts burnt": "attempts_burnt",
    "pages again": "pages_again",
}
"""Columns of the table, and the value of an audit in each."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one scenario. `broken`: the invariants and expectations that failed."""

    name: str
    experiment: Experiment | None
    seconds: float
    broken: list[str]

    def cells(self) -> list[str]:
        run = self.experiment
        audit = run.audit if run else None
        counts = [str(getattr(audit, field)) if audit else "?" for field in _COUNTS.values()]
        shown = [run.fault if run else self.name, str(run.runs) if run else "?", *counts]
        return [*shown, f"{self.seconds:.0f}", "FAILED" if self.broken else "ok"]


async def attempt(name: str, scenario: Scenario, servers: Mapping[str, str], folder: Path) -> Row:
    """Run one scenario. An exception of the scenario becomes a broken expectation. Logs go to `folder`."""
    folder.mkdir(parents=True)
    started = time.monotonic()
    try:
        run = await scenario(servers, folder)
    except Exception as error:  # noqa: BLE001  # any error becomes this row of the table
        return Row(name, None, time.monotonic() - started, [f"scenario failed: {type(error).__name__}: {error}"])
    return Row(name, run, time.monotonic() - started, run.verdict)


@asynccontextmanager
async def _servers(data_dir: Path) -> AsyncIterator[Mapping[str, str]]:
    if stack := os.environ.get("PAGEMILL_TEST_STACK"):
        yield environment_of(json.loads(Path(stack).read_text()))
        return
    async with LocalServers(DataDir(data_dir)) as servers:
        yield servers.environment


async def run(scenarios: Mapping[str, Scenario]) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="pagemill-chaos-"))
    print(f"logs: {folder}", file=sys.stderr)
    rows = []
    async with _servers(folder / "servers") as servers:
        for name, scenario in scenarios.items():
            if name in NEED_APACHE and kafka_kinds.default() is not KafkaKind.APACHE:
                print(f"{name}: left out, it needs Apache Kafka (KAFKA_HOME)", file=sys.stderr)
                continue
            row = await attempt(name, scenario, servers, folder / name)
            print(f"{name}: {row.cells()[-1]} after {row.seconds:.0f} s", *row.broken, sep="\n  ", file=sys.stderr)
            rows.append(row)
    return rows


def table(rows: list[Row]) -> str:
    """The table in Markdown."""
    heads = ["fault", "times", *_COUNTS, "seconds", "verdict"]
    lines = [heads, ["---"] * len(heads), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the short versions, as in the tests")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"of {', '.join(LONG | SHORT)}")
    options = parser.parse_args()
    known = SHORT if options.short else LONG
    if unknown := set(options.only or ()) - known.keys():
        parser.error(f"no scenario {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = asyncio.run(run({name: known[name] for name in options.only or known}))
    print(table(rows))
    return 1 if any(row.broken for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
