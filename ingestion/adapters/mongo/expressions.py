"""Expressions of update pipelines that several adapters use.

The database's clock ends leases; a worker's clock never does. Lease times are int64 milliseconds.
"""

from __future__ import annotations

from typing import Any, Final

NOW_MS: Final = {"$toLong": "$$NOW"}


def if_else(condition: dict[str, Any], then: Any, otherwise: Any) -> dict[str, Any]:
    return {"$cond": [condition, then, otherwise]}


def ms_from_now(lease_ms: int) -> dict[str, Any]:
    return {"$add": [NOW_MS, lease_ms]}
