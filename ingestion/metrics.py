"""Declares every metric. Names end in the unit. Times are in seconds."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_LONG_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAIT_S = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)

SUCCESS: Final = "success"
FAILED: Final = "failed"
RETRIED: Final = "retried"
ATTEMPT_STATUSES: Final = (SUCCESS, FAILED, RETRIED)
"""The values of the label `status` of attempts."""

FILES: Final = Counter(
    "ingestion_files_total",
    "attempts by outcome: success (the document is ready), failed (it has failed), retried (it is tried again)",
    ["status"],
)
PAGES: Final = Counter("ingestion_pages_total", "pages stored")
DOCUMENTS: Final = Gauge(
    "ingestion_documents",
    "documents in each state; only the janitor counts them",
    ["state"],
)
OLDEST_DOCUMENT_AGE: Final = Gauge(
    "ingestion_oldest_document_age_seconds",
    "time since the upload, or the replay, of the oldest unfinished document in each state, 0 if there is none; "
    "only the janitor measures it",
    ["state"],
)
UPLOAD_TO_READY: Final = Histogram(
    "ingestion_upload_to_ready_seconds",
    "time from the upload of a document, or its replay, until it is searchable",
    buckets=_WAIT_S,
)
QUEUE_WAIT: Final = Histogram(
    "ingestion_queue_wait_seconds",
    "time that a job waited in Kafka and in its worker before an attempt began, without the delay of a retry",
    buckets=_WAIT_S,
)
REFUSED: Final = Counter("ingestion_refused_total", "uploaded files refused", ["code"])
DURATION: Final = Histogram(
    "ingestion_duration_seconds", "time from claim to outcome of one attempt", ["status"], buckets=_LONG_S
)
CONVERSION: Final = Histogram(
    "conversion_duration_seconds",
    "time to render one window, extract its text and encode its images",
    buckets=_SHORT_S,
)
FILE_CONVERSION: Final = Histogram(
    "file_conversion_duration_seconds", "time to convert one uploaded file to PDF", ["media_type"], buckets=_LONG_S
)
FILE_CONVERSION_FAILURES: Final = Counter(
    "file_conversion_failures_total", "uploaded files that were not converted to PDF, by error code", ["code"]
)
OCR: Final = Histogram("ocr_duration_seconds", "time to read one page from its image", buckets=_SHORT_S)
OCR_PAGES: Final = Counter(
    "ocr_pages_total", "pages without a useful text layer, by outcome: read, blank, empty or failed", ["outcome"]
)
EMBEDDING: Final = Histogram("embedding_duration_seconds", "time to embed one batch of pages", buckets=_SHORT_S)
BATCH_ITEMS: Final = Histogram(
    "embedder_batch_items", "pages or queries in one batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_COST: Final = Histogram(
    "embedder_batch_patches",
    "patches or tokens in one batch, including padding",
    buckets=(64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072),
)
PADDING: Final = Counter("embedder_padding_patches_total", "patches or tokens of padding that were computed")
BATCH_BUDGET: Final = Gauge(
    "embedder_batch_budget_patches",
    "current limit on the cost of a batch; lower after a batch did not fit into device memory",
)
OUT_OF_MEMORY: Final = Counter("embedder_out_of_memory_total", "batches that did not fit into device memory")
BATCH_WAIT: Final = Histogram(
    "embedder_queue_wait_seconds", "time that one prepared page or query waited for a batch", buckets=_SHORT_S
)
DEVICE_BUSY: Final = Counter("embedder_device_busy_seconds_total", "time during which the device computed a batch")
EMBED_REQUESTS: Final = Counter(
    "embedder_requests_total", "answered embedding requests, by lane and HTTP status", ["lane", "status"]
)
CALLERS_LEFT: Final = Counter(
    "embedder_callers_left_total", "embedding requests whose caller disconnected before the answer"
)
EMBED_LATENCY: Final = Histogram(
    "embedder_request_duration_seconds", "time to answer one embedding request", ["lane"], buckets=_SHORT_S
)
LANE_COST: Final = Gauge("embedder_lane_cost", "estimated tokens or patches in flight", ["lane"])
CACHE_LOOKUPS: Final = Counter(
    "embedder_cache_lookups_total", "cache lookups by result: hit, miss or invalid", ["lane", "result"]
)
CACHE_DROPPED: Final = Counter(
    "embedder_cache_dropped_total", "vectors not cached because the write queue was full or Redis refused them"
)
STORING: Final = Histogram("storing_duration_seconds", "time to write one window to all stores", buckets=_SHORT_S)
STAGE_CPU: Final = Counter(
    "ingestion_stage_cpu_seconds_total", "CPU time of render children and of threads that write, by stage", ["stage"]
)
ENTITIES: Final = Gauge(
    "milvus_collection_entities",
    "rows in each of the largest collections; `_other` is the sum of the rest; only the janitor counts them",
    ["collection"],
)
STORE_REQUESTS: Final = Histogram(
    "store_request_duration_seconds",
    "time of one request to a server, by store and operation, including requests that failed",
    ["store", "operation"],
    buckets=_SHORT_S,
)
GPU_MEMORY: Final = Gauge(
    "gpu_memory_usage_bytes", "memory in use on a GPU of this machine, by all processes", ["gpu", "uuid"]
)
GPU_MEMORY_TOTAL: Final = Gauge("gpu_memory_total_bytes", "memory of a GPU of this machine", ["gpu", "uuid"])
GPU_UTILISATION: Final = Gauge(
    "gpu_utilization_ratio", "share of the last sample period in which a GPU computed, from 0 to 1", ["gpu", "uuid"]
)
GPU_MEMORY_RESERVED: Final = Gauge(
    "embedder_gpu_memory_reserved_bytes", "GPU memory that torch has reserved for the model of this process"
)
RETRIES: Final = Counter("ingestion_retries_total", "attempts published to a retry topic", ["code"])
DEAD_LETTERS: Final = Counter("ingestion_dead_letters_total", "dead letters published")
BREAKER_OPEN: Final = Gauge(
    "ingestion_breaker_open", "1 while jobs wait for an unavailable server, otherwise 0", ["dependency"]
)
LAG: Final = Gauge("kafka_consumer_lag", "records that are published but not yet committed", ["topic", "partition"])
WATERMARK_AGE: Final = Gauge(
    "kafka_watermark_age_seconds",
    "time since the oldest unfinished record of a partition was read, 0 if all are finished; no offset after that "
    "record is committed",
    ["topic", "partition"],
)
IN_FLIGHT: Final = Gauge("ingestion_jobs_in_flight", "documents that this process processes now")
REPAIRS: Final = Counter("ingestion_repairs_total", "repairs by the janitor after a crash or an outage", ["kind"])
COLLECTIONS_CHANGED: Final = Counter(
    "collections_changed_total",
    "collections that the janitor archived, restored, dropped or thawed, after a crash or because they expired",
    ["action"],
)
CODES_MADE: Final = Counter(
    "sign_codes_made_documents_total", "documents whose sign codes the janitor made from their stored vectors"
)
DOCUMENTS_WITHOUT_CODES: Final = Gauge(
    "documents_without_sign_codes", "ready documents that the janitor has to make sign codes for, at most 100000"
)
TERMS_MADE: Final = Counter(
    "terms_made_documents_total", "documents whose terms the janitor made from the texts of their pages"
)
DOCUMENTS_WITHOUT_TERMS: Final = Gauge(
    "documents_without_terms",
    "ready documents that searches for words do not find yet: the janitor has to make their terms; at most 100000",
)
STALLS: Final = Counter("ingestion_stalls_total", "attempts that ended because a stage made no progress", ["stage"])
BACKGROUND_RESTARTS: Final = Counter(
    "background_restarts_total", "background tasks that ended unexpectedly and were restarted", ["task"]
)
UNCLEAN_EXITS: Final = Gauge(
    "process_unclean_exits",
    "earlier processes that were killed or ended by a watchdog, found when this process started",
)
UNREADABLE: Final = Gauge("ingestion_unreadable_documents", "documents in a state that this release does not know")
FINDINGS: Final = Gauge(
    "ingestion_audit_findings",
    "mismatches between stores that the last audit found and did not repair",
    ["store", "kind"],
)
LOGIN_FAILURES: Final = Counter(
    "login_failures_total",
    "requests that the API refused because of their key, by reason: none, wrong, expired, revoked, damaged (the "
    "record of the key cannot be read), or limited (the address sent too many wrong ones)",
    ["reason"],
)
WEBHOOK_DELIVERIES: Final = Counter(
    "webhook_deliveries_total",
    "attempts at webhook deliveries by outcome: delivered, retried, or dead (the last attempt has failed)",
    ["outcome"],
)
WEBHOOKS_UNDELIVERED: Final = Gauge(
    "webhook_deliveries_undelivered",
    "webhook deliveries that are pending (to be sent, or sent again) or dead (until they are replayed); only the "
    "janitor counts them",
    ["state"],
)
WEBHOOK_DURATION: Final = Histogram(
    "webhook_delivery_duration_seconds", "time of one attempt at a webhook delivery", buckets=_SHORT_S
)
HTTP_CONNECTIONS: Final = Gauge("http_connections", "open connections to the HTTP server of this process")
HTTP_ENDED: Final = Counter(
    "http_connections_ended_total", "connections that the HTTP server closed because of a limit, by reason", ["reason"]
)
SEARCH: Final = Histogram("search_duration_seconds", "time of one search, by part", ["part"], buckets=_SHORT_S)
SEARCHES_ADMITTED: Final = Counter("searches_admitted_total", "searches admitted")
SEARCHES_REFUSED: Final = Counter(
    "searches_refused_total", "searches refused with 429 because too many were in flight"
)
SEARCH_ROWS: Final = Gauge("search_rows_in_flight", "rows of the ANN index that all searches in flight request")
SEARCH_BLOB_BYTES: Final = Gauge("search_blob_bytes_in_flight", "bytes of page vectors that searches in flight hold")
SEARCH_CACHE: Final = Counter(
    "search_cache_total",
    "searches by result of the query cache: hit, miss, deleted (a cached page is gone) or changing (not used)",
    ["outcome"],
)
PAGE_CACHE: Final = Counter(
    "search_page_cache_total", "pages to rerank, by result of the page cache: hit or miss", ["outcome"]
)
PAGE_CACHE_BYTES: Final = Gauge("search_page_cache_bytes", "bytes of page vectors in the page cache")
CODE_CACHE: Final = Counter(
    "search_code_cache_total", "segments of sign codes, by result of the cache: hit or miss", ["outcome"]
)
CODE_CACHE_BYTES: Final = Gauge("search_code_cache_bytes", "bytes of sign codes in the cache")
TERM_CACHE: Final = Counter(
    "search_term_cache_total", "segments of terms, by result of the cache: hit or miss", ["outcome"]
)
TERM_CACHE_BYTES: Final = Gauge("search_term_cache_bytes", "bytes of terms in the cache")
STAGE_PAGES: Final = Counter(
    "search_stage_pages_total",
    "pages that entered and left each stage of searches: index, codes or exact; in or out",
    ["stage", "flow"],
)
SEARCH_PAGES_LEFT_OUT: Final = Counter(
    "search_pages_left_out_total",
    "pages that the ANN index showed and that were not ranked: their sign codes were more than one search may read",
)
SCANS_SHARED: Final = Histogram(
    "search_shared_scans", "searches that share one pass over the sign codes of a collection", buckets=(1, 2, 4, 8, 16)
)
ANN_SHARED: Final = Histogram(
    "search_ann_shared_searches", "searches that share one request to the ANN index", buckets=(1, 2, 4, 8, 16, 32)
)

# Alerts on increases need each series before its first event: a new series shows no increase.
for _status in ATTEMPT_STATUSES:
    FILES.labels(_status)
