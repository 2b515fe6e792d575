"""Memory of a server of the local stack."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psutil


def milvus_rss_bytes(stack: Mapping[str, Any] | None) -> int | None:
    """Resident memory of the Milvus in `stack`, a stack.json, and of its children; None if it runs elsewhere."""
    if stack is None:
        return None
    pids = [int(process["pid"]) for process in stack["processes"] if process["name"] == "milvus"]
    total = 0
    with suppress(psutil.NoSuchProcess):
        for server in map(psutil.Process, pids):
            for process in (server, *server.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
    return total or None
