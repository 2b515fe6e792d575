"""The API, HTTP servers, searches and logs."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from ingestion.search_mode import SearchMode
from ingestion.settings.base import PositiveFloat, PositiveInt, Section

NonNegativeInt = Annotated[int, Field(ge=0)]
QuotaName: TypeAlias = Literal[
    "requests_per_s", "bytes_per_day", "pages_per_day", "documents_in_flight", "pages_stored"
]


class ApiSettings(Section):
    api_host: str = Field("127.0.0.1", description="address the API listens on")
    api_port: PositiveInt = Field(8090, description="port the API listens on")
    api_key: SecretStr = Field(
        SecretStr(""),
        description="the first API key, of an administrator of all tenants; the API needs one. `pagemill keys` makes "
        "more",
    )
    api_url: str = Field("http://127.0.0.1:8090", description="address of the API for the command line")
    key_cache_s: PositiveFloat = Field(
        10.0, description="how long a process remembers the record of an API key: a revocation takes effect after it"
    )
    login_failures_per_minute: Annotated[int, Field(ge=0)] = Field(
        30, description="wrong keys that one address may send in a minute; then it may try no other key; 0: no limit"
    )
    metrics_key: SecretStr = Field(
        SecretStr(""),
        description="bearer key of the API's `/metrics`; empty: only callers on private networks see it, and not "
        "through a proxy",
    )
    quota_requests_per_s: NonNegativeInt = Field(
        0, description="requests that a tenant may send in a second to one API process; 0: no limit, also below"
    )
    quota_bytes_per_day: NonNegativeInt = Field(
        0, description="bytes of new files that a tenant may upload in a day, UTC"
    )
    quota_pages_per_day: NonNegativeInt = Field(
        0, description="pages of PDFs that a tenant may upload in a day, UTC; pages of converted files do not count"
    )
    quota_documents_in_flight: NonNegativeInt = Field(
        0, description="documents of a tenant that may wait or be in work at the same time"
    )
    quota_pages_stored: NonNegativeInt = Field(0, description="pages of ready documents that a tenant may have")
    quota_overrides: dict[str, dict[QuotaName, NonNegativeInt]] = Field(
        {},
        examples=['{"acme": {"pages_per_day": 5000}}'],
        description="other quotas for some tenants, as JSON: by tenant, names without PAGEMILL_QUOTA_ in lower case",
    )
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


class HttpSettings(Section):
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
        examples=["10.0.0.0/8"],
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


class SearchSettings(Section):
    search_budget_s: PositiveFloat = Field(
        30.0, description="time that one search may take, with all its waiting; then the answer is 503"
    )
    search_scan_pages: Annotated[int, Field(ge=0)] = Field(
        16_384,
        description="largest collection, in pages, whose sign codes are all ranked in a search; in larger ones the "
        "ANN index shows the pages that are ranked",
    )
    search_ann_limit: PositiveInt = Field(
        800,
        description="rows per query token asked of the ANN index in a collection of 10,000 pages; more in larger "
        "ones, in proportion",
    )
    search_ann_limit_max: PositiveInt = Field(3200, description="most rows per query token asked of the ANN index")
    search_ann_requests: PositiveInt = Field(
        4,
        description="requests to the ANN index side by side, per process; searches that come meanwhile share the next",
    )
    search_candidates: PositiveInt = Field(
        32, description="pages scored with exact MaxSim in a search, or twice its hits where that is more"
    )
    search_threads: Annotated[int, Field(ge=0)] = Field(
        0, description="threads of a process that score pages; 0: one for each core, 8 at most"
    )
    search_limit_rows: PositiveInt = Field(
        614_400,
        description="rows of the ANN index that searches in flight in a process may ask for together, with 24 tokens "
        "added to each query; a search that ranks all sign codes counts a row per token for 16 pages, and 200 at "
        "least; what comes on top is answered with 429",
    )
    search_limit_bytes: PositiveInt = Field(
        256 * 1024**2,
        description="vectors of pages that reranks of a process may hold together, beside the cache; others wait",
    )
    search_page_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * 1024**2, description="vectors of the pages scored most often that a process keeps in memory; 0: none"
    )
    search_code_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        512 * 1024**2,
        description="sign codes of pages that a process keeps in memory; a collection whose codes do not fit is "
        "searched through the ANN index",
    )
    search_code_read_bytes: PositiveInt = Field(
        64 * 1024**2,
        description="sign codes that one search reads from the object store, in a collection that is searched through "
        "the ANN index; pages beyond that are left out",
    )
    search_mode: SearchMode = Field(
        SearchMode.HYBRID, description="mode of a search that names none: hybrid, semantic or lexical"
    )
    search_term_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * 1024**2,
        description="terms of pages that a process keeps in memory, 2 KB for each page; a collection whose terms do "
        "not fit is not searched for words, and the answer says so",
    )
    search_exhaustive_budget_s: PositiveFloat = Field(
        600.0, description="time that a search with effort `exhaustive` may take; a process runs one at a time"
    )
    search_cache_ttl_s: Annotated[int, Field(ge=0)] = Field(
        3600, description="how long Redis remembers an answer, unless its collection changes; 0: not at all"
    )
    search_max_top_k: PositiveInt = Field(100, description="most hits a caller may ask for")
    image_url_expires_s: PositiveInt = Field(900, description="life of an image address in a hit")

    @property
    def result_options(self) -> tuple[int, ...]:
        """What hits depend on besides the request."""
        return (
            self.search_candidates,
            self.search_scan_pages,
            self.search_ann_limit,
            self.search_ann_limit_max,
            self.search_code_cache_bytes,
            self.search_code_read_bytes,
            self.search_term_cache_bytes,
        )


class LogSettings(Section):
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json: JSON lines; console: readable lines; auto: console on a terminal, else JSON"
    )
