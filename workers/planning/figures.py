"""The figures that a plan rests on, each with its source. No figure was measured on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Gpu(StrEnum):
    L4 = "l4"
    RTX_4090 = "4090"
    A100 = "a100"
    H100 = "h100"


@dataclass(frozen=True, slots=True)
class Figure:
    """`is_assumed`: not measured with Pagemill. `source`: the section of docs/ with the measurement, or the reason."""

    value: float
    unit: str
    source: str
    is_assumed: bool = False


_INGEST: Final = "benchmarks.md, Ingest"
_GROWTH: Final = "benchmarks.md, A growing collection"
_VECTORS: Final = "benchmarks.md, Vectors: quality and bytes"

WORKER_CPU_S: Final = Figure(0.044, "CPU s a page", f"{_INGEST}: a worker with its render children")
MILVUS_CPU_S: Final = Figure(0.064, "CPU s a page", f"{_INGEST}: Milvus 2.3.5, the highest of three loads")
S3_CPU_S: Final = Figure(0.012, "CPU s a page", f"{_INGEST}: the highest of six loads")
MONGO_CPU_S: Final = Figure(0.027, "CPU s a page", f"{_INGEST}: 200 files of two pages, the highest of six loads")
WORKER_MEMORY_BYTES: Final = Figure(
    (956 + 214) * 1024**2,
    "bytes",
    "benchmarks.md, The whole system: eight manuals, 956 MiB with an embedder and 214 MiB of render children",
)

VECTORS_PER_PAGE: Final = Figure(779, "vectors a page", f"{_VECTORS}: a ColQwen page")
DIM: Final = Figure(128, "dimensions", f"{_VECTORS}: a ColQwen page")
IMAGE_BYTES: Final = Figure(
    270_000, "bytes a page", "tests/benchmarks/simulate.py: a page at 200 DPI, as that model takes it", is_assumed=True
)
MILVUS_OVERHEAD: Final = Figure(
    1.37, "times vectors and links", f"{_GROWTH}: 2,062 MB for 842,959 rows at 9,216 pages"
)
CODE_OVERHEAD_BYTES: Final = Figure(
    16, "bytes a vector", "scaling.md: 64 bytes a vector, of which the code has one bit for each dimension"
)
SCAN_PAGES: Final = Figure(16_384, "pages", "configuration.md: PAGEMILL_SEARCH_SCAN_PAGES")
MEASURED_PAGES: Final = Figure(9_216, "pages", f"{_GROWTH}: the largest collection that was measured")

SOURCE_BYTES: Final = Figure(100_000, "bytes a page", "assumed: the uploaded file", is_assumed=True)
MONGO_BYTES: Final = Figure(
    4_000, "bytes a page", "assumed: 3,000 characters of text and the fields of a page record", is_assumed=True
)
PAGES_PER_DOCUMENT: Final = Figure(30, "pages", "tests/benchmarks/simulate.py: its default", is_assumed=True)
PAGES_SIGMA: Final = Figure(
    1.2, "of the logarithm of a document's pages", "tests/benchmarks/simulate.py", is_assumed=True
)

FLOP_PER_PAGE: Final = Figure(
    6.6e12,
    "FLOP a page",
    "computed: two for each weight and token, 0.68 billion weights over 3,072 patches and 1.5 billion over 780 tokens",
    is_assumed=True,
)
GPU_UTILISATION: Final = Figure(
    0.25, "of the peak", "assumed: 4-bit weights are unpacked for each batch", is_assumed=True
)
PEAK_FLOP_PER_S: Final = {
    Gpu.L4: Figure(121e12, "FLOP/s", "data sheet, dense BF16", is_assumed=True),
    Gpu.RTX_4090: Figure(165e12, "FLOP/s", "data sheet, dense BF16", is_assumed=True),
    Gpu.A100: Figure(312e12, "FLOP/s", "data sheet, dense BF16", is_assumed=True),
    Gpu.H100: Figure(990e12, "FLOP/s", "data sheet, dense BF16", is_assumed=True),
}
GPU_USD_PER_HOUR: Final = {
    Gpu.L4: Figure(0.8, "USD an hour", "assumed list price; set --gpu-usd-per-hour", is_assumed=True),
    Gpu.RTX_4090: Figure(0.6, "USD an hour", "assumed list price; set --gpu-usd-per-hour", is_assumed=True),
    Gpu.A100: Figure(2.5, "USD an hour", "assumed list price; set --gpu-usd-per-hour", is_assumed=True),
    Gpu.H100: Figure(4.0, "USD an hour", "assumed list price; set --gpu-usd-per-hour", is_assumed=True),
}
CORE_USD_PER_HOUR: Final = Figure(0.04, "USD an hour", "assumed list price", is_assumed=True)
MEMORY_USD_PER_GB_HOUR: Final = Figure(0.005, "USD a GB and hour", "assumed list price", is_assumed=True)
OBJECT_USD_PER_GB_MONTH: Final = Figure(0.023, "USD a GB and month", "assumed list price", is_assumed=True)
HOURS_PER_MONTH: Final = 730


def assumed_gpu_pages_per_s(gpu: Gpu) -> float:
    """Return pages a second on one GPU, computed and never measured."""
    return PEAK_FLOP_PER_S[gpu].value * GPU_UTILISATION.value / FLOP_PER_PAGE.value
