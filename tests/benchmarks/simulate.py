"""Find the bottleneck of an installation with a model of many workers, without running them.

    python -m tests.benchmarks.simulate [--workers 100] [--partitions 1000] [--milvus-ms 50] [--milvus-cores 64]...

The costs of a page are arguments; measure them with `tests.benchmarks.ingest` on the target hardware. Defaults were
measured on one core of a small machine with the local servers. The model answers two questions.

1. Capacity. Every part is a station that a page visits once, with a service time and a number of servers: cores, or
   bytes a second of a link. Pages a second are bounded by the least of servers / service time (utilisation law of a
   queueing network: X <= m_i / D_i), for any order of visits and any distribution of times. The bottleneck is the part
   with the largest D_i / m_i.
2. Spread. A partition belongs to one worker, and the hash of a document's id chooses the partition. Documents with
   log-normal page counts go to random partitions, Kafka's range assignor gives partitions to workers, and the work
   ends when the worker with the most pages ends. Mean over largest pages per worker is the efficiency of the devices.
   More capacity does not reduce this loss.

Assumptions: a worker's device is busy whenever it has a document (measured with 50 ms a page); workers slow each other
down only at the stations; there are no rebalances; servers scale linearly with their cores, except for single records
of the broker and the database, which are far from their limits here; the network has no locality.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Final

import numpy as np

_PAGE_BYTES: Final = {"image": 270_000, "blob": 197_000, "rows": 406_000}
"""Costs of a page with 768 vectors of 128 dimensions at 200 DPI."""
_TRIALS: Final = 20


@dataclass(frozen=True)
class Station:
    """`demand_s`: seconds that a page takes on one of its `servers`."""

    name: str
    demand_s: float
    servers: float

    @property
    def most_pages_per_s(self) -> float:
        return self.servers / self.demand_s


def stations(options: argparse.Namespace) -> list[Station]:
    """The stations of the installation. A station of each worker has one server per worker."""
    moved_bytes = sum(_PAGE_BYTES.values())
    links = options.link_gbit * 1e9 / 8
    return [
        Station("device", options.gpu_ms / 1000, options.workers),
        Station("worker CPU", options.worker_ms / 1000, options.workers * options.worker_cores),
        Station("worker link", moved_bytes / links, options.workers),
        Station("vector database CPU", options.milvus_ms / 1000, options.milvus_cores),
        Station("vector database link", _PAGE_BYTES["rows"] / links, options.milvus_nodes),
        Station("object store CPU", options.s3_ms / 1000, options.s3_cores),
        Station("object store link", (_PAGE_BYTES["image"] + _PAGE_BYTES["blob"]) / links, options.s3_nodes),
        Station("database CPU", options.mongo_ms / 1000, options.mongo_cores),
        Station("progress CPU", options.redis_ms / 1000, 1),  # Redis runs commands on one core
        Station("broker CPU", options.kafka_ms / 1000, options.kafka_cores),
    ]


def spread(workers: int, partitions: int, documents: int, mean_pages: float, sigma: float) -> float:
    """Mean over largest number of pages per worker; 1 if all are equal."""
    random = np.random.default_rng(1)
    owner = np.arange(partitions) * workers // partitions  # partition -> worker
    found = []
    for _ in range(_TRIALS):
        # The mean of a log-normal is exp(mu + sigma^2 / 2).
        pages = np.ceil(random.lognormal(np.log(mean_pages) - sigma**2 / 2, sigma, documents))
        load = np.bincount(owner[random.integers(partitions, size=documents)], weights=pages, minlength=workers)
        found.append(load.mean() / load.max())
    return float(np.mean(found))


def show_capacity(options: argparse.Namespace) -> None:
    order = sorted(stations(options), key=lambda station: station.most_pages_per_s)
    rate = order[0].most_pages_per_s
    print(f"{options.workers} workers: at most {rate:,.0f} pages/s; saturated first: {order[0].name}\n")
    print(f"{'part':<22} {'ms a page':>9} {'servers':>8} {'most pages/s':>13} {'busy at the most':>17}")
    for station in order:
        most = station.most_pages_per_s
        cost = f"{station.demand_s * 1000:>9.2f} {station.servers:>8g}"
        print(f"{station.name:<22} {cost} {most:>13,.0f} {rate / most:>17.0%}")
    shared = [s for s in order if s.name not in ("device", "worker CPU", "worker link")]
    workers = shared[0].most_pages_per_s * options.gpu_ms / 1000
    print(f"\nof what workers share, {shared[0].name} is the first: it is enough for {workers:,.0f} workers")


def show_spread(options: argparse.Namespace) -> None:
    print("\nefficiency of the devices by how documents fall on partitions, if all are published at once")
    print("documents a worker:", *(f"{count:>7}" for count in options.documents))
    for partitions in sorted({options.workers, options.partitions}):
        shares = [
            spread(options.workers, partitions, count * options.workers, options.mean_pages, options.sigma)
            for count in options.documents
        ]
        print(f"{partitions:>7} partitions: ", *(f"{share:>7.2f}" for share in shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--gpu-ms", type=float, default=50.0, help="of a page on a device")
    parser.add_argument("--worker-ms", type=float, default=40.0, help="CPU time of a page in worker and children")
    parser.add_argument("--worker-cores", type=float, default=4.0, help="of each worker")
    parser.add_argument("--milvus-ms", type=float, default=50.0, help="CPU time of a page, indexing included")
    parser.add_argument("--milvus-cores", type=float, default=64.0)
    parser.add_argument("--milvus-nodes", type=float, default=4.0, help="with a link each")
    parser.add_argument("--s3-ms", type=float, default=10.0)
    parser.add_argument("--s3-cores", type=float, default=32.0)
    parser.add_argument("--s3-nodes", type=float, default=4.0)
    parser.add_argument("--mongo-ms", type=float, default=5.0)
    parser.add_argument("--mongo-cores", type=float, default=16.0)
    parser.add_argument("--redis-ms", type=float, default=0.05)
    parser.add_argument("--kafka-ms", type=float, default=0.2)
    parser.add_argument("--kafka-cores", type=float, default=8.0)
    parser.add_argument("--link-gbit", type=float, default=10.0, help="of every machine")
    parser.add_argument("--mean-pages", type=float, default=30.0, help="of a document")
    parser.add_argument("--sigma", type=float, default=1.2, help="of the logarithm of a document's pages")
    parser.add_argument("--documents", type=int, nargs="+", default=[10, 100, 1000], help="a worker, of one backlog")
    options = parser.parse_args()
    show_capacity(options)
    show_spread(options)


if __name__ == "__main__":
    main()
