"""Rendering, stored vectors, workers and the janitor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ingestion.settings.base import PositiveFloat, PositiveInt, Section


class RenderSettings(Section):
    renderer: Literal["auto", "poppler", "pdfium"] = Field(
        "auto",
        description="renderer that is tried first: poppler (pdftoppm) or pdfium; the other one renders what it "
        "cannot; auto: pdfium",
    )
    dpi_policy: Literal["two-tier", "granular", "fixed"] = Field(
        "two-tier",
        description="DPI by page count; two-tier: below 50 pages 200, else 150; granular: below 20 pages 300, below "
        "50 200, below 100 150, else 100; fixed: PAGEMILL_FIXED_DPI",
    )
    fixed_dpi: PositiveInt = Field(200, description="DPI of the fixed policy")
    max_page_px: Annotated[int, Field(ge=10_000)] = Field(
        16_000_000, description="most pixels of one page image; larger pages are rendered at a lower DPI"
    )
    render_window_pages: PositiveInt = Field(8, description="pages rendered, embedded and stored together")
    render_timeout_s: PositiveFloat = Field(
        60.0, description="CPU seconds for rendering one page; the wall-clock limit is ten times as much"
    )
    render_processes: PositiveInt = Field(
        2, description="render child processes per worker, and one more for pages that need much time or memory"
    )
    render_memory_bytes: PositiveInt = Field(
        2 * 1024**3,
        description="most memory for rendering one page; the first tries of a page get half of it, so that all "
        "render children together take at most (`PAGEMILL_RENDER_PROCESSES` / 2 + 1) times as much",
    )
    image_format: Literal["auto", "webp", "png", "jpeg"] = Field(
        "auto",
        description="format of stored page images; auto: PNG (lossless) for text without colour, else JPEG",
    )
    image_quality: Annotated[int, Field(ge=1, le=100)] = Field(85, description="quality of WebP and JPEG images")
    max_text_chars: PositiveInt = Field(100_000, description="characters of a page's text layer that are kept")


class ConversionSettings(Section):
    converter: Literal["auto", "libreoffice", "gotenberg", "off"] = Field(
        "auto",
        description="what converts office files and texts to PDF; auto: Gotenberg where its address is set, else "
        "LibreOffice; off: uploads of such files are refused. Pictures need neither",
    )
    soffice_path: str = Field("soffice", description="LibreOffice's program, by name on the PATH or by path")
    gotenberg_url: str = Field("", description="address of a Gotenberg server, such as http://gotenberg:3000")
    conversion_processes: PositiveInt = Field(
        1, description="office files, and pictures, that one worker converts at a time"
    )
    conversion_timeout_s: PositiveFloat = Field(
        120.0, description="CPU seconds for converting one file; the wall-clock limit is three times as much"
    )
    conversion_memory_bytes: PositiveInt = Field(2 * 1024**3, description="most memory for converting one file")
    conversion_max_bytes: PositiveInt = Field(256 * 1024**2, description="most bytes of a PDF made from a file")
    conversion_max_unpacked_bytes: PositiveInt = Field(
        1024**3, description="most bytes of an office file when it is unpacked"
    )
    max_picture_px: Annotated[int, Field(ge=10_000)] = Field(
        100_000_000, description="most pixels of an uploaded picture, for each of its pages"
    )


class OcrSettings(Section):
    ocr: Literal["auto", "off", "always"] = Field(
        "auto",
        description="reading of page images; auto: pages without a useful text layer, for an embedder that reads "
        "texts, where RapidOCR is installed; always: every page, for every embedder",
    )
    ocr_processes: PositiveInt = Field(1, description="pages that one worker reads at a time, each on one core")
    ocr_timeout_s: PositiveFloat = Field(
        60.0, description="CPU seconds for reading one page; a page that takes longer has no text"
    )
    ocr_memory_bytes: PositiveInt = Field(3 * 1024**3, description="most address space for reading one page")


class VectorSettings(Section):
    index_pooling: Annotated[int, Field(ge=1, le=32)] = Field(
        8,
        description="stored vectors of a page that are merged into one row of the ANN index; pages are ranked with "
        "all of them",
    )
    blob_precision: Literal["bf16", "int8", "int4"] = Field(
        "int8",
        description="precision of the vectors that pages are reranked with: bf16, or integers with one scale for each"
        " vector",
    )


class WorkerSettings(Section):
    worker_id: str = Field("", description="name of this worker in records and logs; host and process id if empty")
    jobs_in_flight: PositiveInt = Field(
        4,
        description="documents of 16 pages or more that one worker ingests at a time, or up to four times as many "
        "shorter ones; at most as many again wait for pages that are rendered one at a time",
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


class JanitorSettings(Section):
    janitor_every_s: PositiveFloat = Field(15.0, description="pause between two rounds of the janitor")
    janitor_grace_s: PositiveFloat = Field(
        30.0,
        description="age from which the janitor finishes an unpublished job, an unwritten dead letter or a half-done "
        "delete",
    )
    janitor_lost_after_s: PositiveFloat = Field(
        21_600.0, description="age from which a queued job is published again, in case the broker has lost it"
    )
    janitor_replaced_after_s: PositiveFloat = Field(
        60.0,
        description="how long the former version of a replaced document is kept, for searches that began before: more "
        "than `PAGEMILL_SEARCH_BUDGET_S`",
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
