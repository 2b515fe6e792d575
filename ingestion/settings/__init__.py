"""Every setting, read from `PAGEMILL_*` environment variables once, in a process's main.

Units are in the names. `make docs` writes the tables of docs/configuration.md from these classes.
"""

from __future__ import annotations

from pydantic import SecretStr

from ingestion.settings.base import Section
from ingestion.settings.embedding import EmbedderSettings, ServingSettings
from ingestion.settings.http import ApiSettings, HttpSettings, LogSettings, SearchSettings
from ingestion.settings.processing import (
    ConversionSettings,
    JanitorSettings,
    OcrSettings,
    RenderSettings,
    VectorSettings,
    WorkerSettings,
)
from ingestion.settings.report import ConfigurationError, SettingsReader, old_variables, unknown_variables
from ingestion.settings.servers import (
    BackupSettings,
    KafkaSettings,
    MilvusSettings,
    MongoSettings,
    RedisSettings,
    S3Settings,
)
from ingestion.settings.tracing import TracingSettings
from ingestion.settings.webhooks import WebhookSettings

__all__ = [
    "SECTIONS",
    "ApiSettings",
    "BackupSettings",
    "ConfigurationError",
    "ConversionSettings",
    "EmbedderSettings",
    "HttpSettings",
    "JanitorSettings",
    "KafkaSettings",
    "LogSettings",
    "MilvusSettings",
    "MongoSettings",
    "OcrSettings",
    "RedisSettings",
    "RenderSettings",
    "S3Settings",
    "SearchSettings",
    "ServingSettings",
    "Settings",
    "TracingSettings",
    "VectorSettings",
    "WebhookSettings",
    "WorkerSettings",
    "markdown_table",
    "old_variables",
    "unknown_variables",
]


class Settings:
    """All sections, read from the environment at construction."""

    def __init__(self, process: str = "") -> None:
        """Raises ConfigurationError, with all that is wrong, also with what `process` needs."""
        reader = SettingsReader()
        self.kafka = reader.read(KafkaSettings)
        self.mongo = reader.read(MongoSettings)
        self.redis = reader.read(RedisSettings)
        self.s3 = reader.read(S3Settings)
        self.backup = reader.read(BackupSettings)
        self.milvus = reader.read(MilvusSettings)
        self.render = reader.read(RenderSettings)
        self.conversion = reader.read(ConversionSettings)
        self.ocr = reader.read(OcrSettings)
        self.embedder = reader.read(EmbedderSettings)
        self.serving = reader.read(ServingSettings)
        self.vectors = reader.read(VectorSettings)
        self.api = reader.read(ApiSettings)
        self.http = reader.read(HttpSettings)
        self.search = reader.read(SearchSettings)
        self.worker = reader.read(WorkerSettings)
        self.janitor = reader.read(JanitorSettings)
        self.webhooks = reader.read(WebhookSettings)
        self.log = reader.read(LogSettings)
        self.tracing = reader.read(TracingSettings)
        if process == "api":
            reader.require(ApiSettings, "api_key", self.api.api_key, "the API needs a secret that its clients send")
        reader.check()


SECTIONS: tuple[type[Section], ...] = (
    KafkaSettings,
    MongoSettings,
    RedisSettings,
    S3Settings,
    BackupSettings,
    MilvusSettings,
    RenderSettings,
    ConversionSettings,
    OcrSettings,
    EmbedderSettings,
    ServingSettings,
    VectorSettings,
    ApiSettings,
    HttpSettings,
    SearchSettings,
    WorkerSettings,
    JanitorSettings,
    WebhookSettings,
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
