"""Addresses of servers, and how Pagemill uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from ingestion.settings.base import PositiveFloat, PositiveInt, Section
from ingestion.settings.kafka_client import KafkaClientSettings


class KafkaSettings(KafkaClientSettings):
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
    kafka_stand_in: bool = Field(
        False,
        description="the broker is noida-db, the stand-in of the local stack, which needs pauses after empty polls; "
        "`pagemill up` sets it",
    )
    kafka_session_timeout_ms: PositiveInt = Field(
        30_000, description="time without a heartbeat after which the broker declares a worker dead"
    )
    kafka_silence_s: PositiveFloat = Field(
        120.0,
        description="time without an answer to a fetch, while the broker answers other requests, after which a worker "
        "joins its group again, and ends if that does not help",
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

    @property
    def topics(self) -> list[str]:
        """The names of all topics."""
        return [
            self.kafka_jobs_topic,
            *self.retry_topics.values(),
            self.kafka_events_topic,
            self.dead_letter_topic,
        ]


class MongoSettings(Section):
    mongo_uri: str = Field("mongodb://127.0.0.1:27017", description="MongoDB connection string")
    mongo_database: str = Field("pagemill", description="MongoDB database")
    mongo_stand_in: bool = Field(
        False,
        description="the server is SecantusDB, the stand-in of the local stack, which reads a whole collection where "
        "a request changes and returns one document; `pagemill up` sets it",
    )


class RedisSettings(Section):
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis connection string of a single server; rediss for TLS"
    )
    redis_task_ttl_s: PositiveInt = Field(7 * 86_400, description="how long Redis keeps a document's progress")


class S3Settings(Section):
    s3_endpoint: str = Field("127.0.0.1:9000", description="host:port of MinIO or another S3 server")
    s3_access_key: str = Field("", description="S3 access key")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key")
    s3_session_token: SecretStr = Field(SecretStr(""), description="session token of a temporary S3 key")
    s3_credentials: Literal["keys", "iam"] = Field(
        "keys",
        description="keys: PAGEMILL_S3_ACCESS_KEY and the settings beside it; iam: the role that AWS gives this "
        "machine, container or service account",
    )
    s3_bucket: str = Field("pagemill", description="bucket of sources, page images and vectors")
    s3_prefix: Annotated[str, Field(pattern=r"^([^/]+/)*$")] = Field(
        "",
        examples=["team/"],
        description="prefix of all keys in the bucket, with a slash at its end, for a bucket that is shared",
    )
    s3_secure: bool = Field(False, description="https to the S3 server")
    s3_cafile: Path | None = Field(
        None, description="certificates (PEM) that sign that of the S3 server; empty: the system's"
    )
    s3_address_style: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="where the bucket is named: in the path, or in the host name (virtual); auto: virtual for AWS",
    )
    s3_encryption: Literal["none", "AES256", "aws:kms"] = Field(
        "none", description="encryption that the S3 server is asked for with each object"
    )
    s3_kms_key_id: str = Field("", description="key of aws:kms")
    s3_public_endpoint: str = Field(
        "", description="host:port of the S3 server for browsers, used in image addresses; empty: PAGEMILL_S3_ENDPOINT"
    )
    s3_region: str = Field("us-east-1", description="S3 region, part of a signature")
    s3_concurrency: PositiveInt = Field(8, description="concurrent requests to the S3 server, per process")


class BackupSettings(Section):
    """The S3 server of backups. What is empty is as in S3Settings."""

    backup_s3_endpoint: str = Field(
        "",
        examples=["s3.other-region.example:443"],
        description="host:port of the S3 server of backups (`pagemill collections archive --to`); empty, as each "
        "setting of backups: as the one without BACKUP_",
    )
    backup_s3_access_key: str = Field("", description="S3 access key for backups")
    backup_s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key for backups")
    backup_s3_session_token: SecretStr = Field(SecretStr(""), description="session token of that key, if it has one")
    backup_s3_secure: bool | None = Field(None, examples=["true"], description="https to the S3 server of backups")
    backup_s3_cafile: Path | None = Field(
        None, description="certificates (PEM) that sign that of the server of backups"
    )
    backup_s3_region: str = Field("", description="S3 region of backups")
    backup_s3_address_style: Literal["auto", "path", "virtual"] | None = Field(
        None, examples=["path"], description="where the bucket of backups is named, see PAGEMILL_S3_ADDRESS_STYLE"
    )
    backup_s3_encryption: Literal["none", "AES256", "aws:kms"] | None = Field(
        None, examples=["AES256"], description="encryption that the S3 server of backups is asked for with each object"
    )
    backup_s3_kms_key_id: str = Field("", description="key of aws:kms for backups")


class MilvusSettings(Section):
    milvus_uri: str = Field(
        "http://127.0.0.1:19530", description="Milvus address, https for TLS; a path names the database"
    )
    milvus_token: SecretStr = Field(SecretStr(""), description="Milvus token, user:password")
    milvus_cafile: Path | None = Field(
        None, description="certificates (PEM) that sign that of the Milvus server; empty: those of gRPC"
    )
    milvus_certfile: Path | None = Field(
        None, description="certificate (PEM) of this client, with its chain, for a Milvus that asks for one"
    )
    milvus_keyfile: Path | None = Field(
        None, description="private key (PEM) of PAGEMILL_MILVUS_CERTFILE; empty: it is in that file"
    )
    milvus_collection_prefix: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)] = Field(
        "pagemill",
        description="prefix of the names of collections in Milvus; several installations may share a database if no "
        "prefix begins with another",
    )
    milvus_timeout_s: PositiveFloat = Field(60.0, description="time limit of one Milvus request")
    index_type: Literal["HNSW", "HNSW_SQ", "DISKANN", "IVF_RABITQ"] = Field(
        "HNSW",
        description="index of new collections; HNSW_SQ keeps each vector in fewer bytes and needs Milvus Lite, or "
        "Milvus 2.5 or later; DISKANN keeps vectors and graph on the disk of Milvus (2.2 or later); IVF_RABITQ keeps "
        "one bit a value and needs Milvus 2.6 or later",
    )
    index_mmap: bool = Field(
        False,
        description="Milvus maps index and vectors of new collections from its disk, in place of loading them into "
        "memory; needs Milvus 2.4 or later",
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
    diskann_search_list: PositiveInt = Field(
        400, description="DISKANN candidates while searching (search_list); at least the number of rows asked for"
    )
    ivf_nlist: Annotated[int, Field(ge=1, le=65_536)] = Field(
        1024, description="IVF_RABITQ clusters of each segment (nlist) of new collections"
    )
    ivf_nprobe: Annotated[int, Field(ge=1, le=65_536)] = Field(
        64, description="IVF_RABITQ clusters that a search reads (nprobe); at most PAGEMILL_IVF_NLIST"
    )
    rabitq_refine_type: Literal["NONE", "SQ6", "SQ8", "FP16", "BF16", "FP32"] = Field(
        "NONE",
        description="precision of further values that IVF_RABITQ keeps, of new collections, to score the rows found; "
        "NONE keeps none: pages are scored from object storage anyway",
    )
