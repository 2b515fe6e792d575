"""Every metric, declared once. Names end in their unit; times are seconds."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_LONG_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

FILES: Final = Counter("ingestion_files_total", "documents that became ready or failed", ["status"])
PAGES: Final = Counter("ingestion_pages_total", "pages stored")
REFUSED: Final = Counter("ingestion_refused_total", "uploaded files refused", ["code"])
DURATION: Final = Histogram(
    "ingestion_duration_seconds", "from claim to outcome of one attempt", ["status"], buckets=_LONG_S
)
CONVERSION: Final = Histogram(
    "conversion_duration_seconds", "rendering, text and image encoding of one window", buckets=_SHORT_S
)
EMBEDDING: Final = Histogram("embedding_duration_seconds", "embedding of one batch of pages", buckets=_SHORT_S)
BATCH_ITEMS: Final = Histogram(
    "embedder_batch_items", "pages or queries in one batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_COST: Final = Histogram(
    "embedder_batch_patches",
    "patches or tokens of one batch, padding included",
    buckets=(64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072),
)
PADDING: Final = Counter("embedder_padding_patches_total", "patches or tokens computed that were only padding")
BATCH_BUDGET: Final = Gauge(
    "embedder_batch_budget_patches", "the cost that a batch may have now; less after one did not fit"
)
OUT_OF_MEMORY: Final = Counter("embedder_out_of_memory_total", "batches that did not fit the device's memory")
BATCH_WAIT: Final = Histogram(
    "embedder_queue_wait_seconds", "from prepared to a place in a batch, of one page or query", buckets=_SHORT_S
)
DEVICE_BUSY: Final = Counter("embedder_device_busy_seconds_total", "time in which the device had a batch")
EMBED_REQUESTS: Final = Counter(
    "embedder_requests_total", "answered requests for embeddings, by lane and HTTP status", ["lane", "status"]
)
CALLERS_LEFT: Final = Counter("embedder_callers_left_total", "requests for embeddings whose caller did not wait")
EMBED_LATENCY: Final = Histogram(
    "embedder_request_duration_seconds", "one answered request for embeddings", ["lane"], buckets=_SHORT_S
)
LANE_COST: Final = Gauge("embedder_lane_cost", "estimated tokens or patches in flight", ["lane"])
CACHE_LOOKUPS: Final = Counter(
    "embedder_cache_lookups_total", "inputs looked for in the cache: hit, miss, or invalid", ["lane", "result"]
)
CACHE_DROPPED: Final = Counter("embedder_cache_dropped_total", "vectors not cached, because too many were waiting")
STORING: Final = Histogram("storing_duration_seconds", "writing one window to all stores", buckets=_SHORT_S)
STAGE_CPU: Final = Counter(
    "ingestion_stage_cpu_seconds_total", "CPU time by stage: of render children, and of threads that write", ["stage"]
)
ENTITIES: Final = Gauge("milvus_collection_entities", "rows of a collection", ["collection"])
GPU_MEMORY: Final = Gauge("gpu_memory_usage_bytes", "GPU memory in use by this process")
RETRIES: Final = Counter("ingestion_retries_total", "attempts published to a retry topic", ["code"])
DEAD_LETTERS: Final = Counter("ingestion_dead_letters_total", "dead letters published")
BREAKER_OPEN: Final = Gauge("ingestion_breaker_open", "1 while jobs wait for a server to come back", ["dependency"])
LAG: Final = Gauge("kafka_consumer_lag", "records published and not yet committed", ["topic", "partition"])
IN_FLIGHT: Final = Gauge("ingestion_jobs_in_flight", "documents that this process is processing")
REPAIRS: Final = Counter("ingestion_repairs_total", "repairs by the janitor after a crash or an outage", ["kind"])
COLLECTIONS_CHANGED: Final = Counter(
    "collections_changed_total",
    "collections that the janitor archived, restored, dropped or thawed, after a crash or because they expired",
    ["action"],
)
STALLS: Final = Counter("ingestion_stalls_total", "attempts ended because a stage made no progress", ["stage"])
BACKGROUND_RESTARTS: Final = Counter(
    "background_restarts_total", "background tasks that ended unexpectedly and were restarted", ["task"]
)
UNREADABLE: Final = Gauge("ingestion_unreadable_documents", "documents in states that only a newer release knows")
FINDINGS: Final = Gauge(
    "ingestion_audit_findings", "mismatches between the stores that the last audit found and left", ["store", "kind"]
)
HTTP_CONNECTIONS: Final = Gauge("http_connections", "connections open to this process's HTTP server")
HTTP_ENDED: Final = Counter(
    "http_connections_ended_total", "connections that the HTTP server ended because of a limit, by reason", ["reason"]
)
SEARCH: Final = Histogram("search_duration_seconds", "one search, by part", ["part"], buckets=_SHORT_S)
SEARCHES_ADMITTED: Final = Counter("searches_admitted_total", "searches that were admitted")
SEARCHES_REFUSED: Final = Counter("searches_refused_total", "searches answered with 429, as too many were in flight")
SEARCH_ROWS: Final = Gauge("search_rows_in_flight", "rows of the ANN index that searches in flight ask for together")
SEARCH_BLOB_BYTES: Final = Gauge("search_blob_bytes_in_flight", "vectors of pages that searches in flight hold")
SEARCH_CACHE: Final = Counter(
    "search_cache_total",
    "searches by result of the query cache: hit, miss, deleted (a page of the answer is gone) or changing (not used)",
    ["outcome"],
)
PAGE_CACHE: Final = Counter(
    "search_page_cache_total", "pages to rerank, by whether the page cache had them", ["outcome"]
)
PAGE_CACHE_BYTES: Final = Gauge("search_page_cache_bytes", "vectors of pages in memory")
ANN_SHARED: Final = Histogram(
    "search_ann_shared_searches", "searches that share one request to the ANN index", buckets=(1, 2, 4, 8, 16, 32)
)

# A series that appears with its first event has no increase at that moment, and no alert would see it.
for _status in ("ready", "failed"):
    FILES.labels(_status)
