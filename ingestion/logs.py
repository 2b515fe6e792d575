"""Structured logging: JSON lines for machines, readable lines on a terminal. A process's main configures it once."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from typing import Any, Final

import structlog

from ingestion.settings import LogSettings
from ingestion.tracing import log_fields

_RECONNECTS: Final = re.compile(
    r"KafkaConnectionError(?:: |\(['\"])Connection at \S+ closed|^Marking the coordinator dead"
)
"""aiokafka logs these when a broker closes a connection, and connects again. Brokers with a limit on logins close one
every few minutes. An outage shows in other lines, and in a breaker."""

_REPEAT_S: Final = 30.0
_MOST_TEXTS: Final = 256


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return not (record.name.startswith("aiokafka") and _RECONNECTS.search(record.getMessage()))


class RepeatFilter(logging.Filter):
    """Drops a line of aiokafka that says the same as one of the last `_REPEAT_S`.

    While a broker is down, aiokafka logs the same failed connection several times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        text, now_s = record.getMessage(), time.monotonic()
        if now_s - self._passed_s.get(text, -math.inf) < _REPEAT_S:
            return False
        if len(self._passed_s) >= _MOST_TEXTS:
            self._passed_s.clear()
        self._passed_s[text] = now_s
        return True


def _add_ids(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Add the ids of the request and of the span, unless the line has its own."""
    for name, value in log_fields().items():
        event.setdefault(name, value)
    return event


def configure(settings: LogSettings) -> None:
    """Send structlog's and the standard library's records to standard error, in one format."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    renderer = structlog.processors.JSONRenderer(ensure_ascii=False) if as_json else structlog.dev.ConsoleRenderer()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_is_worth_a_line)
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("aiokafka", "pymongo", "httpx", "httpcore", "urllib3", "pymilvus", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
