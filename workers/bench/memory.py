"""Memory of the processes of the local stack."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psutil


def stack_rss_bytes(stack: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the resident memory of each process in `stack`, a stack.json, with its children. Empty without a stack.

    Pages that a process shares with its children count more than once.
    """
    if stack is None:
        return {}
    found = {str(process["name"]): _tree_rss_bytes(int(process["pid"])) for process in stack["processes"]}
    return {name: rss_bytes for name, rss_bytes in found.items() if rss_bytes}


def milvus_rss_bytes(stack: Mapping[str, Any] | None) -> int | None:
    """Return the resident memory of the Milvus in `stack`, and of its children. Return None if it runs elsewhere."""
    return stack_rss_bytes(stack).get("milvus")


def _tree_rss_bytes(pid: int) -> int:
    """Return 0 for a process that has ended."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(pid)
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
