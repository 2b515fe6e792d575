"""Measures the time of each command to MongoDB, for the metric of store latencies."""

from __future__ import annotations

from typing import Final

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from ingestion import metrics
from ingestion.adapters.mongo.errors import DEPENDENCY

_COMMANDS: Final = frozenset(
    {
        "aggregate",
        "count",
        "delete",
        "distinct",
        "find",
        "findAndModify",
        "getMore",
        "insert",
        "ping",
        "update",
    }
)
"""The commands with a series of their own. The rest are `other`."""
_S_PER_US: Final = 1e-6


class CommandTimes(CommandListener):
    """Observes the duration of commands. The driver calls it in the thread that sent the command."""

    def started(self, event: CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: CommandSucceededEvent) -> None:
        _observe(event.command_name, event.duration_micros)

    def failed(self, event: CommandFailedEvent) -> None:
        _observe(event.command_name, event.duration_micros)


def _observe(command: str, duration_us: int) -> None:
    operation = command if command in _COMMANDS else "other"
    metrics.STORE_REQUESTS.labels(DEPENDENCY, operation).observe(duration_us * _S_PER_US)
