"""The capacity model: replicas, partitions, cores, memory and bytes for a number of pages a day.

Replicas: the pages a second of the peak must be at most `utilisation` of what the replicas embed together. That is
less than the sum of their devices, because a partition belongs to one replica and documents fall on partitions at
random. Otherwise replicas add up: eight made 8.00 times the pages of one (benchmarks.md, Ingest).
Tested against the simulation `tests/benchmarks/simulate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, sqrt
from statistics import NormalDist
from typing import Final

from workers.planning import figures
from workers.planning.figures import Gpu

_DAY_S: Final = 86_400
_PEAK_S: Final = 3_600
"""Documents of one hour of the peak are spread over the partitions."""
_PARTITIONS_PER_REPLICA: Final = 4
"""A multiple, so that each replica has as many, and twice the replicas still have."""
_LEAST_PARTITIONS: Final = 10
_VALUE_BYTES: Final = 4
_LINK_BYTES: Final = 8
"""HNSW's lowest layer has 2 M links of 4 bytes."""
_KEY_BYTES: Final = 8
_CODE_BITS_LEAST: Final = 256
_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Demand:
    """What the installation has to do. `gpu_pages_per_s`: measured; None: the assumption for `gpu`.

    Pages are searchable for `searchable_days`, and archived then: their objects stay until `kept_days` are over.
    """

    pages_a_day: float
    gpu: Gpu
    peak_factor: float = 3.0
    gpu_pages_per_s: float | None = None
    utilisation: float = 0.8
    searchable_days: float = 30.0
    kept_days: float = 365.0
    pages_per_document: float = figures.PAGES_PER_DOCUMENT.value
    vectors_per_page: float = figures.VECTORS_PER_PAGE.value
    dim: float = figures.DIM.value
    index_pooling: int = 8
    hnsw_m: int = 32
    gpu_usd_per_hour: float | None = None

    @property
    def device_pages_per_s(self) -> float:
        return self.gpu_pages_per_s or figures.assumed_gpu_pages_per_s(self.gpu)

    @property
    def peak_pages_per_s(self) -> float:
        return self.pages_a_day * self.peak_factor / _DAY_S

    @property
    def searchable_pages(self) -> float:
        return self.pages_a_day * min(self.searchable_days, self.kept_days)

    @property
    def kept_pages(self) -> float:
        return self.pages_a_day * self.kept_days


@dataclass(frozen=True, slots=True)
class Cost:
    """One line of the monthly costs."""

    what: str
    usd_a_month: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demand needs. Objects are those of all kept pages; Milvus, MongoDB and the API hold searchable ones.

    `api_code_bytes` is the cache of one process that searches everything.
    """

    demand: Demand
    replicas: int
    partitions: int
    spread: float
    """Share of the devices' time that is used when a backlog is worked off: documents are spread unevenly."""
    worker_cores: float
    milvus_cores: float
    mongo_cores: float
    s3_cores: float
    worker_memory_bytes: float
    milvus_memory_bytes: float
    mongo_bytes: float
    object_bytes: float
    api_code_bytes: float
    costs: tuple[Cost, ...]
    notes: tuple[str, ...]


def plan(demand: Demand) -> Plan:
    """Return the least replicas that keep up with the peak, and what goes with them."""
    replicas = 1
    while demand.peak_pages_per_s > demand.utilisation * sustained_pages_per_s(demand, replicas):
        replicas += 1
    peak = demand.peak_pages_per_s
    worker_cores = max(float(replicas), peak * figures.WORKER_CPU_S.value / demand.utilisation)
    cores = {
        "worker": worker_cores,
        "milvus": peak * figures.MILVUS_CPU_S.value / demand.utilisation,
        "mongo": peak * figures.MONGO_CPU_S.value / demand.utilisation,
        "s3": peak * figures.S3_CPU_S.value / demand.utilisation,
    }
    milvus_memory_bytes = demand.searchable_pages * index_bytes_per_page(demand)
    code_bytes = demand.searchable_pages * code_bytes_per_page(demand)
    object_bytes = demand.kept_pages * object_bytes_per_page(demand)
    mongo_bytes = demand.searchable_pages * figures.MONGO_BYTES.value
    worker_memory_bytes = replicas * figures.WORKER_MEMORY_BYTES.value
    return Plan(
        demand=demand,
        replicas=replicas,
        partitions=partitions_for(replicas),
        spread=spread(demand, replicas),
        worker_cores=cores["worker"],
        milvus_cores=cores["milvus"],
        mongo_cores=cores["mongo"],
        s3_cores=cores["s3"],
        worker_memory_bytes=worker_memory_bytes,
        milvus_memory_bytes=milvus_memory_bytes,
        mongo_bytes=mongo_bytes,
        object_bytes=object_bytes,
        api_code_bytes=code_bytes,
        costs=_costs(
            demand, replicas, sum(cores.values()), worker_memory_bytes + milvus_memory_bytes, object_bytes, mongo_bytes
        ),
        notes=_notes(demand),
    )


def sustained_pages_per_s(demand: Demand, replicas: int) -> float:
    """Return what `replicas` embed together when the work is spread over them at random."""
    return replicas * demand.device_pages_per_s * spread(demand, replicas)


def partitions_for(replicas: int) -> int:
    """Return a multiple of `replicas`, and the default of 10 at least."""
    return replicas * max(_PARTITIONS_PER_REPLICA, ceil(_LEAST_PARTITIONS / replicas))


def spread(demand: Demand, replicas: int) -> float:
    """Return the mean over the largest number of pages per replica, of the documents of an hour at the peak.

    A replica's pages are the sum of about D document sizes, a compound Poisson variable. For log-normal sizes its
    relative deviation is sqrt(exp(sigma^2) / D), and its skewness exp(1.5 sigma^2) / sqrt(D). The largest of n such
    values is expected z deviations above the mean: z is the quantile (n - 0.375) / (n + 0.25) of the normal
    distribution (Blom 1958), corrected for the skewness (Cornish and Fisher 1938).
    """
    if replicas == 1:
        return 1.0
    documents = demand.peak_pages_per_s * _PEAK_S / demand.pages_per_document / replicas
    variance = figures.PAGES_SIGMA.value**2
    deviation = sqrt(exp(variance) / max(documents, 1.0))
    skewness = exp(1.5 * variance) / sqrt(max(documents, 1.0))
    normal = NormalDist().inv_cdf((replicas - 0.375) / (replicas + 0.25))
    largest = max(0.0, normal + (normal**2 - 1) * skewness / 6)
    return 1 / (1 + largest * deviation)


def index_bytes_per_page(demand: Demand) -> float:
    """Return Milvus's memory: pooled rows with their links, and what was measured on top."""
    rows = ceil(demand.vectors_per_page / demand.index_pooling)
    row_bytes = demand.dim * _VALUE_BYTES + demand.hnsw_m * _LINK_BYTES
    return rows * row_bytes * figures.MILVUS_OVERHEAD.value


def code_bytes_per_page(demand: Demand) -> float:
    """Return the sign codes in the memory of an API process."""
    code_bytes = max(demand.dim, _CODE_BITS_LEAST) / 8
    return demand.vectors_per_page * (code_bytes + figures.CODE_OVERHEAD_BYTES.value)


def object_bytes_per_page(demand: Demand) -> float:
    """Return the source, the image, the int8 vectors with a scale of four bytes each, and the sign codes."""
    vectors = demand.vectors_per_page * (demand.dim + 4)
    codes = demand.vectors_per_page * max(demand.dim, _CODE_BITS_LEAST) / 8
    return figures.SOURCE_BYTES.value + figures.IMAGE_BYTES.value + vectors + codes


def _costs(
    demand: Demand, replicas: int, cores: float, memory_bytes: float, object_bytes: float, mongo_bytes: float
) -> tuple[Cost, ...]:
    hours = figures.HOURS_PER_MONTH
    gpu_usd = demand.gpu_usd_per_hour or figures.GPU_USD_PER_HOUR[demand.gpu].value
    return (
        Cost(f"{replicas} GPUs ({demand.gpu.value}) at {gpu_usd:g} USD an hour", replicas * gpu_usd * hours),
        Cost(f"{ceil(cores)} cores", ceil(cores) * figures.CORE_USD_PER_HOUR.value * hours),
        Cost("memory of workers and Milvus", memory_bytes / _GB * figures.MEMORY_USD_PER_GB_HOUR.value * hours),
        Cost("objects and records", (object_bytes + mongo_bytes) / _GB * figures.OBJECT_USD_PER_GB_MONTH.value),
    )


def _notes(demand: Demand) -> tuple[str, ...]:
    notes = ["Searches are not planned for: each API process needs the cache of sign codes of what it searches."]
    if demand.gpu_pages_per_s is None:
        notes.append(
            f"{demand.device_pages_per_s:.1f} pages a second on a GPU are assumed and were never measured: "
            "measure yours with `pagemill embedder calibrate`, and give --gpu-pages-per-s."
        )
    if demand.searchable_pages > figures.SCAN_PAGES.value:
        notes.append(
            f"A collection of more than {figures.SCAN_PAGES.value:,.0f} pages is searched through the index; none of "
            f"more than {figures.MEASURED_PAGES.value:,.0f} pages has been measured. Split collections where searches "
            "allow it."
        )
    return tuple(notes)
