"""Every setting, read from `PAGEMILL_*` environment variables once, in a process's main.

Units are in the names. `make docs` writes the tables of docs/configuration.md from these classes.
"""

from __future__ import annotations

from pydantic import SecretStr

from ingestion.settings.base import Section
from ingestion.settings.embedding import EmbedderSettings, ServingSettings
from ingestion.settings.http import ApiSettings, HttpSettings, LogSettings, SearchSettings
from ingestion.settings.processing import JanitorSettings, RenderSettings, VectorSettings, WorkerSettings
from ingestion.settings.servers import KafkaSettings, MilvusSettings, MongoSettings, RedisSettings, S3Settings
from ingestion.settings.tracing import TracingSettings

__all__ = [
    "SECTIONS",
    "ApiSettings",
    "EmbedderSettings",
    "HttpSettings",
    "JanitorSettings",
    "KafkaSettings",
    "LogSettings",
    "MilvusSettings",
    "MongoSettings",
    "RedisSettings",
    "RenderSettings",
    "S3Settings",
    "SearchSettings",
    "ServingSettings",
    "Settings",
    "TracingSettings",
    "VectorSettings",
    "WorkerSettings",
    "markdown_table",
]


class Settings:
    """All sections, read from the environment at construction."""

    def __init__(self) -> None:
        self.kafka = KafkaSettings()
        self.mongo = MongoSettings()
        self.redis = RedisSettings()
        self.s3 = S3Settings()
        self.milvus = MilvusSettings()
        self.render = RenderSettings()
        self.embedder = EmbedderSettings()
        self.serving = ServingSettings()
        self.vectors = VectorSettings()
        self.api = ApiSettings()
        self.http = HttpSettings()
        self.search = SearchSettings()
        self.worker = WorkerSettings()
        self.janitor = JanitorSettings()
        self.log = LogSettings()
        self.tracing = TracingSettings()


SECTIONS: tuple[type[Section], ...] = (
    KafkaSettings,
    MongoSettings,
    RedisSettings,
    S3Settings,
    MilvusSettings,
    RenderSettings,
    EmbedderSettings,
    ServingSettings,
    VectorSettings,
    ApiSettings,
    HttpSettings,
    SearchSettings,
    WorkerSettings,
    JanitorSettings,
    LogSettings,
    TracingSettings,
)


def _shown(default: object) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    return f"`{default}`" if default not in ("", None) else ""


def markdown_table() -> str:
    """All settings as one table; `python -m ingestion.settings` prints it."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for section in SECTIONS:
        for name, field in section.model_fields.items():
            lines.append(f"| `PAGEMILL_{name.upper()}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(lines)
