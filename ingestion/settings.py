"""Every setting, read from `PAGEMILL_*` environment variables once, in a process's main.

Units are in the names. `make docs` writes the tables of docs/configuration.md from these classes.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class _Section(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAGEMILL_", frozen=True, extra="ignore")


class KafkaSettings(_Section):
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, comma separated")
    kafka_group: str = Field("pagemill-workers", description="consumer group of the workers")
    kafka_jobs_topic: str = Field("pagemill.jobs", description="topic of ingest jobs; others are named after it")
    kafka_events_topic: str = Field("pagemill.events", description="topic on which terminal changes are announced")
    kafka_partitions: PositiveInt = Field(10, description="partitions of the jobs topic when it is created")
    kafka_replication: PositiveInt = Field(1, description="replication factor of topics when they are created")
    kafka_max_poll_interval_ms: PositiveInt = Field(
        300_000, description="time without a poll after which the broker takes a worker's partitions away"
    )
    kafka_idle_rest_ms: int = Field(
        0,
        description="rest after an empty poll; only for a broker that answers an empty fetch at once and so keeps "
        "its consumers spinning, which Apache Kafka does not",
    )
    kafka_session_timeout_ms: PositiveInt = Field(
        30_000, description="time without a heartbeat after which the broker declares a worker dead"
    )
    kafka_static_membership: bool = Field(
        False,
        description="a worker that comes back under its PAGEMILL_WORKER_ID takes its partitions up again without a "
        "rebalance; one that does not come back keeps them for the session timeout",
    )
    retry_delays_s: Annotated[tuple[PositiveInt, ...], NoDecode, Field(min_length=1)] = Field(
        (10, 60, 600),
        description="waits before the second, third, ... attempt, comma separated, each with a topic of its own; "
        "the last one holds for all further attempts",
    )

    @field_validator("retry_delays_s", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    @property
    def retry_topics(self) -> dict[int, str]:
        """The retry topic of each delay in seconds."""
        return {delay_s: f"{self.kafka_jobs_topic}-retry-{delay_s * 1000}" for delay_s in self.retry_delays_s}

    @property
    def dead_letter_topic(self) -> str:
        return f"{self.kafka_jobs_topic}-dlt"


class MongoSettings(_Section):
    mongo_uri: str = Field("mongodb://127.0.0.1:27017", description="MongoDB connection string")
    mongo_database: str = Field("pagemill", description="MongoDB database")


class RedisSettings(_Section):
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis connection string")
    redis_task_ttl_s: PositiveInt = Field(7 * 86_400, description="how long a document's progress is kept")


class S3Settings(_Section):
    s3_endpoint: str = Field("127.0.0.1:9000", description="host:port of MinIO or another S3 server")
    s3_access_key: str = Field("", description="S3 access key")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key")
    s3_bucket: str = Field("pagemill", description="bucket of sources, page images and vectors")
    s3_secure: bool = Field(False, description="https to the S3 server")
    s3_public_endpoint: str = Field(
        "", description="host:port that browsers reach the S3 server by, put into image addresses; empty: s3_endpoint"
    )
    s3_region: str = Field("us-east-1", description="S3 region, part of a signature")
    s3_concurrency: PositiveInt = Field(8, description="requests to the S3 server side by side, per process")


class MilvusSettings(_Section):
    milvus_uri: str = Field("http://127.0.0.1:19530", description="Milvus address")
    milvus_token: SecretStr = Field(SecretStr(""), description="Milvus token, user:password")
    milvus_timeout_s: PositiveFloat = Field(60.0, description="limit of one Milvus request")
    index_type: Literal["HNSW", "HNSW_SQ"] = Field(
        "HNSW",
        description="index of new collections; HNSW_SQ keeps each vector in fewer bytes, where the server has it: "
        "Milvus Lite, Milvus from 2.5 on",
    )
    index_sq_type: Literal["SQ8", "BF16", "FP16"] = Field(
        "SQ8", description="what HNSW_SQ keeps of a value: 8 bits, or BF16, FP16; Milvus Lite knows SQ8 only"
    )
    hnsw_m: PositiveInt = Field(32, description="HNSW links per node (M) of new collections")
    hnsw_ef_construction: PositiveInt = Field(500, description="HNSW candidates while building, of new collections")
    hnsw_ef: PositiveInt = Field(400, description="HNSW candidates while searching, raised to the rows asked for")


class RenderSettings(_Section):
    renderer: Literal["auto", "poppler", "pdfium"] = Field(
        "auto",
        description="poppler (pdftoppm) or pdfium draws, and the other what the first one cannot; auto: pdfium first",
    )
    dpi_policy: Literal["two-tier", "granular", "fixed"] = Field(
        "two-tier", description="two-tier: under 50 pages 200, else 150; granular: 300, 200, 150, 100; or fixed"
    )
    fixed_dpi: PositiveInt = Field(200, description="DPI of the fixed policy")
    max_page_px: Annotated[int, Field(ge=10_000)] = Field(
        16_000_000, description="pixels of one page image at most; larger pages are drawn at a lower DPI"
    )
    render_window_pages: PositiveInt = Field(8, description="pages rendered, embedded and stored together")
    render_timeout_s: PositiveFloat = Field(
        60.0, description="CPU seconds for drawing one page; ten times that by the clock"
    )
    render_processes: PositiveInt = Field(
        2, description="render child processes per worker, and one more for pages that need much"
    )
    render_memory_bytes: PositiveInt = Field(
        2 * 1024**3,
        description="most memory that drawing one page may take; half of it in a first try, so that all render "
        "children together take at most (`PAGEMILL_RENDER_PROCESSES` / 2 + 1) times as much",
    )
    image_format: Literal["auto", "webp", "png", "jpeg"] = Field(
        "auto",
        description="format of stored page images; auto: png, which loses nothing, for text without colour, else jpeg",
    )
    image_quality: Annotated[int, Field(ge=1, le=100)] = Field(85, description="quality of WebP and JPEG images")
    max_text_chars: PositiveInt = Field(100_000, description="characters of a page's text layer that are kept")


class EmbedderSettings(_Section):
    embedder: Literal["local", "colqwen", "remote"] = Field(
        "local",
        description="what workers embed with: local, text by MiniLM; colqwen, pictures by ColQwen2; remote, the "
        "service at PAGEMILL_EMBEDDER_URL",
    )
    embedder_url: str = Field(
        "http://127.0.0.1:8091",
        description="address of the embedding service; comma separated, where collections are of several models",
    )
    embedder_timeout_s: PositiveFloat = Field(30.0, description="limit of one request to the embedding service")
    embedder_concurrency: PositiveInt = Field(
        8, description="requests to the embedding service side by side, per process"
    )
    embedder_patience_s: PositiveFloat = Field(
        30.0, description="how long an embedding service that is overloaded is tried again before it counts as down"
    )
    embedder_request_bytes: PositiveInt = Field(
        16 * 1024**2, description="texts or pictures in one request to the embedding service; a larger one goes alone"
    )
    embedder_host: str = Field("127.0.0.1", description="address the embedding service listens on")
    embedder_port: PositiveInt = Field(8091, description="port the embedding service listens on")
    embedder_threads: int = Field(
        0, description="batches that the local embedder computes side by side, each by one core; 0: all"
    )
    colqwen_model: str = Field(
        "vidore/colqwen2-v1.0-hf", description="ColQwen2 checkpoint: a name on the Hugging Face hub, or a folder"
    )
    colqwen_revision: str = Field("main", description="commit, tag or branch of the checkpoint on the hub")
    colqwen_precision: Literal["nf4", "bf16", "fp32"] = Field(
        "nf4", description="nf4: the language model in 4 bits, computed in BF16; or all of it in bf16 or fp32"
    )
    colqwen_device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="cpu, cuda or cuda:N; auto: a GPU where there is one"
    )
    colqwen_prompt_tokens: Literal["keep", "drop"] = Field(
        "keep", description="whether a page's vectors include those of the prompt around the image, as published"
    )
    colqwen_max_tokens: Annotated[int, Field(ge=16, le=2000)] = Field(
        768, description="image tokens of a page at most; larger pages are scaled down"
    )
    embed_batch_patches: PositiveInt = Field(
        12_288,
        description="vectors computed in one batch by the colqwen embedder, padding included; a page has up to 780",
    )
    embed_wait_ms: Annotated[int, Field(ge=0)] = Field(
        10, description="how long a page waits for others to fill its batch while the device is idle"
    )
    token_pooling: Annotated[int, Field(ge=1, le=4)] = Field(
        1, description="vectors of a page that are merged into one before they are stored; 1: none"
    )

    @property
    def embedder_urls(self) -> tuple[str, ...]:
        """Where queries are embedded. Whoever embeds pages uses the first."""
        return tuple(url.strip() for url in self.embedder_url.split(",") if url.strip())


class ServingSettings(_Section):
    """What the embedding service accepts, and how long it remembers."""

    embed_max_inputs: PositiveInt = Field(64, description="inputs accepted in one request by the embedding service")
    embed_max_input_chars: PositiveInt = Field(200_000, description="characters accepted in one text by it")
    embed_max_body_bytes: PositiveInt = Field(64 * 1024**2, description="largest request body accepted by it")
    embed_bodies_limit_bytes: PositiveInt = Field(
        256 * 1024**2,
        description="bytes of request bodies that may be in flight in it, a quarter of them in bodies of up to 1 MiB; "
        "what comes on top is answered with 429",
    )
    embed_max_image_px: PositiveInt = Field(16_777_216, description="pixels accepted in one image by it")
    embed_text_limit_tokens: PositiveInt = Field(
        4096,
        description="estimated tokens of queries that may be in flight in it, a second's work of two cores; what "
        "comes on top is answered with 429",
    )
    embed_document_limit_tokens: PositiveInt = Field(
        16_384, description="the same for texts that are documents, which wait while there are queries"
    )
    embed_image_limit_patches: PositiveInt = Field(
        49_152,
        description="the same for images, in patches of 28 x 28 pixels that the model sees, or an eighth of the "
        "patches sent where that is more",
    )
    embed_image_nice: Annotated[int, Field(ge=0, le=19)] = Field(
        10, description="by how much a process with the image lane alone gives way to others on its CPUs, as of nice"
    )
    embed_cache_ttl_s: Annotated[int, Field(ge=0)] = Field(
        7 * 86_400, description="how long Redis keeps vectors that nobody asks for; 0: no cache"
    )


class VectorSettings(_Section):
    index_pooling: Annotated[int, Field(ge=1, le=4)] = Field(
        4, description="stored vectors of a page that become one row of the ANN index; pages are reranked with all"
    )
    blob_precision: Literal["bf16", "int8", "int4"] = Field(
        "int8", description="of the vectors that pages are reranked with: bf16, or integers with a scale a vector"
    )


class ApiSettings(_Section):
    api_host: str = Field("127.0.0.1", description="address the API listens on")
    api_port: PositiveInt = Field(8090, description="port the API listens on")
    api_key: SecretStr = Field(SecretStr(""), description="bearer key that callers must send; the API needs one")
    api_url: str = Field("http://127.0.0.1:8090", description="where the command line finds the API")
    max_file_bytes: PositiveInt = Field(2 * 1024**3, description="largest PDF accepted")
    max_pages: PositiveInt = Field(10_000, description="most pages accepted in one PDF")
    max_files_per_upload: PositiveInt = Field(200, description="most files in one upload request")
    store_budget_s: PositiveFloat = Field(
        15.0,
        description="time that the stores may take for showing documents, or for one file of an upload, to which a "
        "second for each MiB is added; then the answer is 503",
    )
    spool_dir: Path | None = Field(None, description="where uploads rest while they are checked; the system's default")
    inspect_timeout_s: PositiveFloat = Field(
        30.0, description="CPU seconds for opening a PDF at upload; ten times that by the clock"
    )
    inspect_processes: PositiveInt = Field(
        2,
        description="child processes of the API that open uploaded PDFs, 512 MiB each, and one more for files that "
        "take long to open",
    )


class HttpSettings(_Section):
    """Limits of the API and of the embedding service, before a key is looked at."""

    http_max_connections: PositiveInt = Field(
        1000,
        description="connections to the API, or to the embedding service, at once; fewer where the limit of open "
        "files is low. One that waits for a request makes room for a new one",
    )
    http_max_connections_per_address: Annotated[int, Field(ge=0)] = Field(
        0, description="the same from one address, or one IPv6 network of 64 bits; 0: half of all"
    )
    http_trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="addresses or networks, comma separated, of proxies that limit their own callers: connections "
        "from them are not counted by address",
    )
    http_header_timeout_s: PositiveFloat = Field(10.0, description="time for the head of a request to arrive")
    http_keep_alive_s: PositiveFloat = Field(5.0, description="time that a connection stays open between two requests")
    http_stall_s: PositiveFloat = Field(
        30.0, description="how long the sender of a body, or the reader of an answer, may make no progress"
    )
    http_min_bytes_per_s: PositiveInt = Field(
        1024, description="what counts as progress; less uses up PAGEMILL_HTTP_STALL_S bit by bit"
    )

    @field_validator("http_trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(one.strip() for one in value.split(",") if one.strip()) if isinstance(value, str) else value

    @field_validator("http_trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            ip_network(one, strict=False)
        return value


class SearchSettings(_Section):
    search_ann_limit: PositiveInt = Field(200, description="rows per query token asked of the ANN index")
    search_ann_requests: PositiveInt = Field(
        4,
        description="requests to the ANN index side by side, per process; searches that come meanwhile share the next",
    )
    search_candidates: PositiveInt = Field(128, description="pages reranked with exact MaxSim")
    search_limit_rows: PositiveInt = Field(
        204_800,
        description="rows of the ANN index that searches in flight in a process may ask for together; each asks for "
        "PAGEMILL_SEARCH_ANN_LIMIT a token of its query and 24 tokens more; what comes on top is answered with 429",
    )
    search_limit_bytes: PositiveInt = Field(
        256 * 1024**2,
        description="vectors of pages that reranks of a process may hold together, beside the cache; others wait",
    )
    search_page_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        512 * 1024**2, description="vectors of pages reranked lately that a process keeps in memory; 0: none"
    )
    search_cache_ttl_s: Annotated[int, Field(ge=0)] = Field(
        3600, description="how long Redis remembers an answer, unless its collection changes; 0: not at all"
    )
    search_max_top_k: PositiveInt = Field(100, description="most hits a caller may ask for")
    image_url_expires_s: PositiveInt = Field(900, description="life of an image address in a hit")


class WorkerSettings(_Section):
    worker_id: str = Field("", description="name of this worker in records and logs; host and process id if empty")
    jobs_in_flight: PositiveInt = Field(
        4,
        description="documents of 16 pages or more that one worker works on side by side, or up to four times as many "
        "shorter ones",
    )
    max_attempts: PositiveInt = Field(5, description="attempts after which a document is dead-lettered")
    failure_run_limit: PositiveInt = Field(
        10,
        description="documents of several collections that may fail in a row, for reasons that lie in the worker, "
        "before it stops taking jobs until it is restarted; of one collection alone three times as many",
    )
    max_ahead: PositiveInt = Field(
        1000, description="records of a partition that may be fetched beyond its oldest unfinished one"
    )
    watchdog_s: PositiveFloat = Field(
        120.0, description="standstill of a worker's event loop or polling after which it ends itself"
    )
    stall_s: PositiveFloat = Field(
        180.0,
        description="time without progress after which a stage of an attempt, or the device of an embedding service, "
        "counts as stalled, at least",
    )
    stall_factor: Annotated[float, Field(ge=1)] = Field(
        20.0,
        description="and at least so many times a usual gap between two signs of progress in that stage, so that a "
        "slow machine does not count as stalled",
    )
    lease_s: PositiveFloat = Field(30.0, description="how long a document stays with a worker that gives no sign")
    drain_s: PositiveFloat = Field(25.0, description="how long a stopping worker goes on with what it has begun")
    worker_metrics_host: str = Field("127.0.0.1", description="address of the worker's /metrics, /health and /ready")
    worker_metrics_port: int = Field(0, description="their port; 0: a free one, named in the log")


class JanitorSettings(_Section):
    janitor_every_s: PositiveFloat = Field(15.0, description="pause between two rounds of the janitor")
    janitor_grace_s: PositiveFloat = Field(
        30.0, description="age from which an unpublished job, an unwritten letter or a half-done delete is taken on"
    )
    janitor_lost_after_s: PositiveFloat = Field(
        21_600.0, description="age from which a queued job is published again, should the broker have lost it"
    )
    janitor_audit_every_s: PositiveFloat = Field(
        3600.0, description="pause between two rounds in which the stores are compared and orphans removed"
    )
    janitor_orphan_grace_s: PositiveFloat = Field(
        3600.0, description="age from which an object without a record is taken for an orphan, not for an upload"
    )
    collection_expire: Literal["off", "archive", "drop"] = Field(
        "off", description="what becomes of a collection that nobody has searched or uploaded to for a long time"
    )
    collection_expire_days: PositiveFloat = Field(90.0, description="days without use after which that happens")
    janitor_settle_s: PositiveFloat = Field(
        5.0, description="pause before an audit looks again at what seemed wrong and may only have been in motion"
    )


class LogSettings(_Section):
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json lines, or readable lines on a terminal"
    )


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


SECTIONS: tuple[type[_Section], ...] = (
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


if __name__ == "__main__":
    print(markdown_table())
