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
    kafka_jobs_topic: str = Field(
        "pagemill.jobs", description="topic of ingest jobs; the retry and dead-letter topics are named after it"
    )
    kafka_events_topic: str = Field(
        "pagemill.events", description="topic of events: documents that became ready, failed or deleted"
    )
    kafka_partitions: PositiveInt = Field(10, description="partitions of the jobs topic, when Pagemill creates it")
    kafka_replication: PositiveInt = Field(
        1, description="replication factor of the topics, when Pagemill creates them"
    )
    kafka_max_poll_interval_ms: PositiveInt = Field(
        300_000, description="time without a poll after which the broker takes a worker's partitions away"
    )
    kafka_idle_rest_ms: int = Field(
        0,
        description="pause after an empty poll; only for a broker that answers an empty fetch at once, which Apache "
        "Kafka does not",
    )
    kafka_session_timeout_ms: PositiveInt = Field(
        30_000, description="time without a heartbeat after which the broker declares a worker dead"
    )
    kafka_static_membership: bool = Field(
        False,
        description="a worker that restarts with the same PAGEMILL_WORKER_ID gets its partitions back without a "
        "rebalance; one that does not restart keeps them for the session timeout",
    )
    retry_delays_s: Annotated[tuple[PositiveInt, ...], NoDecode, Field(min_length=1)] = Field(
        (10, 60, 600),
        description="delays before the second, third, ... attempt, comma separated, each with a topic of its own; the"
        " last delay also applies to all later attempts",
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
    redis_task_ttl_s: PositiveInt = Field(7 * 86_400, description="how long Redis keeps a document's progress")


class S3Settings(_Section):
    s3_endpoint: str = Field("127.0.0.1:9000", description="host:port of MinIO or another S3 server")
    s3_access_key: str = Field("", description="S3 access key")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key")
    s3_bucket: str = Field("pagemill", description="bucket of sources, page images and vectors")
    s3_secure: bool = Field(False, description="https to the S3 server")
    s3_public_endpoint: str = Field(
        "", description="host:port of the S3 server for browsers, used in image addresses; empty: PAGEMILL_S3_ENDPOINT"
    )
    s3_region: str = Field("us-east-1", description="S3 region, part of a signature")
    s3_concurrency: PositiveInt = Field(8, description="concurrent requests to the S3 server, per process")


class MilvusSettings(_Section):
    milvus_uri: str = Field("http://127.0.0.1:19530", description="Milvus address")
    milvus_token: SecretStr = Field(SecretStr(""), description="Milvus token, user:password")
    milvus_timeout_s: PositiveFloat = Field(60.0, description="time limit of one Milvus request")
    index_type: Literal["HNSW", "HNSW_SQ"] = Field(
        "HNSW",
        description="index of new collections; HNSW_SQ keeps each vector in fewer bytes and needs Milvus Lite, or "
        "Milvus 2.5 or later",
    )
    index_sq_type: Literal["SQ8", "BF16", "FP16"] = Field(
        "SQ8", description="precision of a value in HNSW_SQ: SQ8 (8 bits), BF16 or FP16; Milvus Lite has SQ8 only"
    )
    hnsw_m: PositiveInt = Field(32, description="HNSW links per node (M) of new collections")
    hnsw_ef_construction: PositiveInt = Field(
        500, description="HNSW candidates while building (efConstruction), of new collections"
    )
    hnsw_ef: PositiveInt = Field(
        400, description="HNSW candidates while searching (ef); at least the number of rows asked for"
    )


class RenderSettings(_Section):
    renderer: Literal["auto", "poppler", "pdfium"] = Field(
        "auto",
        description="renderer that is tried first: poppler (pdftoppm) or pdfium; the other one draws what it cannot; "
        "auto: pdfium",
    )
    dpi_policy: Literal["two-tier", "granular", "fixed"] = Field(
        "two-tier",
        description="DPI by page count; two-tier: below 50 pages 200, else 150; granular: below 20 pages 300, below "
        "50 200, below 100 150, else 100; fixed: PAGEMILL_FIXED_DPI",
    )
    fixed_dpi: PositiveInt = Field(200, description="DPI of the fixed policy")
    max_page_px: Annotated[int, Field(ge=10_000)] = Field(
        16_000_000, description="most pixels of one page image; larger pages are drawn at a lower DPI"
    )
    render_window_pages: PositiveInt = Field(8, description="pages rendered, embedded and stored together")
    render_timeout_s: PositiveFloat = Field(
        60.0, description="CPU seconds for drawing one page; the wall-clock limit is ten times as much"
    )
    render_processes: PositiveInt = Field(
        2, description="render child processes per worker, and one more for pages that need much time or memory"
    )
    render_memory_bytes: PositiveInt = Field(
        2 * 1024**3,
        description="most memory for drawing one page; the first try gets half of it, so that all render children "
        "together take at most (`PAGEMILL_RENDER_PROCESSES` / 2 + 1) times as much",
    )
    image_format: Literal["auto", "webp", "png", "jpeg"] = Field(
        "auto",
        description="format of stored page images; auto: PNG (lossless) for text without colour, else JPEG",
    )
    image_quality: Annotated[int, Field(ge=1, le=100)] = Field(85, description="quality of WebP and JPEG images")
    max_text_chars: PositiveInt = Field(100_000, description="characters of a page's text layer that are kept")


class EmbedderSettings(_Section):
    embedder: Literal["local", "colqwen", "remote"] = Field(
        "local",
        description="embedder of the workers; local: text, by MiniLM; colqwen: images, by ColQwen2; remote: the "
        "service at PAGEMILL_EMBEDDER_URL",
    )
    embedder_url: str = Field(
        "http://127.0.0.1:8091",
        description="address of the embedding service; several, comma separated, where collections use several models",
    )
    embedder_timeout_s: PositiveFloat = Field(30.0, description="time limit of one request to the embedding service")
    embedder_concurrency: PositiveInt = Field(
        8, description="concurrent requests to the embedding service, per process"
    )
    embedder_patience_s: PositiveFloat = Field(
        30.0, description="how long requests to an overloaded embedding service are repeated before it counts as down"
    )
    embedder_request_bytes: PositiveInt = Field(
        16 * 1024**2,
        description="bytes of texts or images in one request to the embedding service; a larger input is sent alone",
    )
    embedder_host: str = Field("127.0.0.1", description="address the embedding service listens on")
    embedder_port: PositiveInt = Field(8091, description="port the embedding service listens on")
    embedder_threads: int = Field(
        0,
        description="batches that the local embedder computes in parallel, each on one core; 0: as many as there are "
        "cores",
    )
    colqwen_model: str = Field(
        "vidore/colqwen2-v1.0-hf", description="ColQwen2 checkpoint: a name on the Hugging Face hub, or a folder"
    )
    colqwen_revision: str = Field("main", description="commit, tag or branch of the checkpoint on the hub")
    colqwen_precision: Literal["nf4", "bf16", "fp32"] = Field(
        "nf4", description="nf4: the language model in 4 bits, computed in BF16; bf16, fp32: the whole model"
    )
    colqwen_device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="cpu, cuda or cuda:N; auto: a GPU, if there is one"
    )
    colqwen_prompt_tokens: Literal["keep", "drop"] = Field(
        "keep",
        description="keep: a page's vectors include those of the prompt around the image, as published; drop: they do"
        " not",
    )
    colqwen_max_tokens: Annotated[int, Field(ge=16, le=2000)] = Field(
        768, description="most image tokens of a page; larger pages are scaled down"
    )
    embed_batch_patches: PositiveInt = Field(
        12_288,
        description="most vectors in one batch of the colqwen embedder, padding included; a page has up to 780",
    )
    embed_wait_ms: Annotated[int, Field(ge=0)] = Field(
        10, description="how long a page waits for other pages to fill its batch while the device is idle"
    )
    token_pooling: Annotated[int, Field(ge=1, le=4)] = Field(
        1, description="vectors of a page that are merged into one before they are stored; 1: none"
    )

    @property
    def embedder_urls(self) -> tuple[str, ...]:
        """Where queries are embedded. Workers embed pages at the first."""
        return tuple(url.strip() for url in self.embedder_url.split(",") if url.strip())


class ServingSettings(_Section):
    """What the embedding service accepts, and how long it caches vectors."""

    embed_max_inputs: PositiveInt = Field(64, description="most inputs in one request to the embedding service")
    embed_max_input_chars: PositiveInt = Field(
        200_000, description="most characters in one text for the embedding service"
    )
    embed_max_body_bytes: PositiveInt = Field(
        64 * 1024**2, description="largest request body of the embedding service"
    )
    embed_bodies_limit_bytes: PositiveInt = Field(
        256 * 1024**2,
        description="most bytes of request bodies in flight in the embedding service, a quarter of them for bodies of"
        " up to 1 MiB and the rest for larger ones; above the limit the answer is 429",
    )
    embed_max_image_px: PositiveInt = Field(
        16_777_216, description="most pixels in one image for the embedding service"
    )
    embed_text_limit_tokens: PositiveInt = Field(
        4096,
        description="most estimated tokens of queries in flight in the embedding service (the default is a second's "
        "work of two cores); above the limit the answer is 429",
    )
    embed_document_limit_tokens: PositiveInt = Field(
        16_384, description="the same for texts of documents, which wait while there are queries"
    )
    embed_image_limit_patches: PositiveInt = Field(
        49_152,
        description="the same for images, in patches of 28 x 28 pixels; an image counts with the patches that the "
        "model gets, or with an eighth of the patches sent, whichever is more",
    )
    embed_image_nice: Annotated[int, Field(ge=0, le=19)] = Field(
        10, description="nice value of a process that has the image lane only"
    )
    embed_cache_ttl_s: Annotated[int, Field(ge=0)] = Field(
        7 * 86_400, description="how long Redis keeps vectors after their last use; 0: no cache"
    )


class VectorSettings(_Section):
    index_pooling: Annotated[int, Field(ge=1, le=4)] = Field(
        4,
        description="stored vectors of a page that are merged into one row of the ANN index; pages are reranked with "
        "all of them",
    )
    blob_precision: Literal["bf16", "int8", "int4"] = Field(
        "int8",
        description="precision of the vectors that pages are reranked with: bf16, or integers with one scale for each"
        " vector",
    )


class ApiSettings(_Section):
    api_host: str = Field("127.0.0.1", description="address the API listens on")
    api_port: PositiveInt = Field(8090, description="port the API listens on")
    api_key: SecretStr = Field(SecretStr(""), description="bearer key that callers must send; the API needs one")
    api_url: str = Field("http://127.0.0.1:8090", description="address of the API for the command line")
    max_file_bytes: PositiveInt = Field(2 * 1024**3, description="largest PDF accepted")
    max_pages: PositiveInt = Field(10_000, description="most pages accepted in one PDF")
    max_files_per_upload: PositiveInt = Field(200, description="most files in one upload request")
    store_budget_s: PositiveFloat = Field(
        15.0,
        description="time that the stores may take to show documents, for one file of an upload (and a second for "
        "each MiB), or to delete one document (and a second for 100 pages); after that the answer is 503",
    )
    spool_dir: Path | None = Field(
        None, description="folder for uploads while they are checked; empty: the system's temporary folder"
    )
    inspect_timeout_s: PositiveFloat = Field(
        30.0, description="CPU seconds for opening a PDF at upload; the wall-clock limit is ten times as much"
    )
    inspect_processes: PositiveInt = Field(
        2,
        description="child processes of the API that open uploaded PDFs, 512 MiB each, and one more for files that "
        "take long to open",
    )


class HttpSettings(_Section):
    """Limits of the API and of the embedding service, which hold before the key is checked."""

    http_max_connections: PositiveInt = Field(
        1000,
        description="most connections to the API, or to the embedding service; fewer where the limit of open files is"
        " low. A new connection replaces the one that has waited longest for a request",
    )
    http_max_connections_per_address: Annotated[int, Field(ge=0)] = Field(
        0, description="the same from one address, or from one IPv6 network of 64 bits; 0: half of all"
    )
    http_trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="addresses or networks, comma separated, of proxies that limit their own callers: connections "
        "from them are not counted by address",
    )
    http_header_timeout_s: PositiveFloat = Field(
        10.0, description="time limit for the request line and the header fields to arrive"
    )
    http_keep_alive_s: PositiveFloat = Field(5.0, description="time that a connection stays open between two requests")
    http_stall_s: PositiveFloat = Field(
        30.0, description="how long the sender of a body, or the reader of an answer, may stand still"
    )
    http_min_bytes_per_s: PositiveInt = Field(
        1024,
        description="the rate that counts as progress; a slower peer uses up PAGEMILL_HTTP_STALL_S little by little",
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
    search_budget_s: PositiveFloat = Field(
        30.0, description="time that one search may take, with all its waiting; then the answer is 503"
    )
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
        description="documents of 16 pages or more that one worker ingests at a time, or up to four times as many "
        "shorter ones",
    )
    max_attempts: PositiveInt = Field(5, description="attempts after which a document is dead-lettered")
    failure_run_limit: PositiveInt = Field(
        10,
        description="documents of several collections that fail in a row, for reasons that lie in the worker, after "
        "which it takes no jobs until it is restarted; for documents of one collection alone three times "
        "as many",
    )
    max_ahead: PositiveInt = Field(
        1000, description="most records of a partition that are read beyond its oldest unfinished one"
    )
    watchdog_s: PositiveFloat = Field(
        120.0, description="how long a worker's event loop or polling may stand still before the worker exits"
    )
    stall_s: PositiveFloat = Field(
        180.0,
        description="least time without progress after which a stage of an attempt, or the device of an embedding "
        "service, counts as stalled",
    )
    stall_factor: Annotated[float, Field(ge=1)] = Field(
        20.0,
        description="the limit is also at least this many times the usual gap between two signs of progress in the "
        "stage, so that a slow machine does not count as stalled",
    )
    lease_s: PositiveFloat = Field(
        30.0, description="how long a document stays with a worker that does not renew its lease"
    )
    drain_s: PositiveFloat = Field(
        25.0, description="how long a stopping worker continues the documents that it has begun"
    )
    worker_metrics_host: str = Field("127.0.0.1", description="address of the worker's /metrics, /health and /ready")
    worker_metrics_port: int = Field(
        0, description="port of the worker's /metrics, /health and /ready; 0: a free port, which the log names"
    )


class JanitorSettings(_Section):
    janitor_every_s: PositiveFloat = Field(15.0, description="pause between two rounds of the janitor")
    janitor_grace_s: PositiveFloat = Field(
        30.0,
        description="age from which the janitor finishes an unpublished job, an unwritten dead letter or a half-done "
        "delete",
    )
    janitor_lost_after_s: PositiveFloat = Field(
        21_600.0, description="age from which a queued job is published again, in case the broker has lost it"
    )
    janitor_audit_every_s: PositiveFloat = Field(
        3600.0, description="pause between two audits, which compare the stores and remove orphans"
    )
    janitor_orphan_grace_s: PositiveFloat = Field(
        3600.0,
        description="age from which an object without a record counts as an orphan and not as an upload under way",
    )
    collection_expire: Literal["off", "archive", "drop"] = Field(
        "off", description="what the janitor does with a collection that is not used, neither searched nor uploaded to"
    )
    collection_expire_days: PositiveFloat = Field(90.0, description="days without use after which it does so")
    janitor_settle_s: PositiveFloat = Field(
        5.0,
        description="pause before an audit looks again at a mismatch, which may be a document that is being written",
    )


class LogSettings(_Section):
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json: JSON lines; console: readable lines; auto: console on a terminal, else JSON"
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
