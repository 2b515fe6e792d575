"""Logs of a local stack: JSON, one object a line, with level, time and event."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

from workers.bench.scrape import OWN_PROCESSES
from workers.validation.context import Context
from workers.validation.finding import Finding, judged, skipped

_LINES: Final = 500
_TAIL_BYTES: Final = 512 * 1024
_FIELDS: Final = frozenset({"event", "level", "timestamp"})


async def logs_structured(context: Context) -> Finding:
    if not context.target.is_local:
        return skipped("the logs are elsewhere; look for lines that are JSON objects with event, level and timestamp")
    return await asyncio.to_thread(judge_logs, context.data_dir / "logs")


def judge_logs(folder: Path) -> Finding:
    """Judge the last lines of each of Pagemill's processes. Servers have logs of their own forms."""
    problems, counts = [], {}
    for path in sorted(folder.glob("*.log")):
        if not path.stem.startswith(OWN_PROCESSES):
            continue
        lines = _last_lines(path)
        bad = [line for line in lines if not _is_structured(line)]
        counts[path.name] = f"{len(lines)} lines, {len(bad)} not structured"
        if bad:
            problems.append(f"{path.name}: {bad[0][:200]!r}")
    if not counts:
        return skipped(f"{folder} has no log of a process of Pagemill")
    return judged(problems, "each line is a JSON object with event, level and timestamp", **counts)


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    whole = lines[1:] if size > _TAIL_BYTES else lines
    return [line for line in whole if line.strip()][-_LINES:]


def _is_structured(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and entry.keys() >= _FIELDS
