"""The measurement at one size of the collection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psutil

from tests.benchmarks.filling import Place
from tests.benchmarks.growth.clients import Answer, Counters, Load, SearchProcess, many_clients, one_client
from tests.benchmarks.growth.corpus import PageName
from tests.benchmarks.growth.exact import ExactScores
from tests.benchmarks.manuals import Question
from tests.benchmarks.rig import cpu_s

TOP: Final = 10
_TOP_RIGHT: Final = 5
STABLE_S: Final = 16.0
"""A search waits for Milvus's time tick until its process has known the collection unchanged for 15 s."""
_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int
    clients: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions, and where each page of a manual is in the collection."""

    questions: Sequence[Question]
    placed: Mapping[Place, PageName]
    exact: ExactScores

    @property
    def queries(self) -> list[str]:
        return [question.text for question in self.questions]


async def measure(process: SearchProcess, milvus: psutil.Process, asked: Asked, plan: Plan) -> dict[str, Any]:
    """The figures of the searches, of the process's first search on."""
    cold = await _cold(process, asked.queries, plan.warm_up_s)
    before, milvus_s = await process.counters(), cpu_s(milvus)
    answers = await one_client(process, asked.queries * plan.rounds)
    alone = await _used(process, before, len(answers))
    milvus_ms = (cpu_s(milvus) - milvus_s) / len(answers) * 1000
    found = answers[: len(asked.questions)]
    await many_clients(process, asked.queries, plan.clients, plan.seconds / 4)
    before = await process.counters()
    load = await many_clients(process, asked.queries, plan.clients, plan.seconds)
    together = await _used(process, before, len(load.seconds))
    return {
        **times("", [answer.took_s for answer in answers]),
        **figures_of_load(load),
        **_recall(asked, found),
        **cold,
        "bytes_per_search": round(alone.pop("blob_bytes")),
        "objects_per_search": round(alone.pop("blobs"), 1),
        "cpu_ms_per_search": round(alone.pop("cpu_s") * 1000, 2),
        "milvus_cpu_ms_per_search": round(milvus_ms, 2),
        "clients_bytes_per_search": round(together.pop("blob_bytes")),
        "clients_cpu_ms_per_search": round(together.pop("cpu_s") * 1000, 2),
        "api_mb": memory_mb(psutil.Process(process.pid)),
        "milvus_mb": memory_mb(milvus),
        "searches": len(answers),
        "stages": stages(alone),
        "clients_stages": stages(together),
        "counters": {name: round(value, 3) for name, value in alone.items() if "_seconds_" not in name and value},
    }


async def _cold(process: SearchProcess, queries: Sequence[str], warm_up_s: float) -> dict[str, float]:
    """Ask all questions for the first time, and again until the times no longer depend on the start."""
    began = time.perf_counter()
    first = await process.counters()
    (cold,) = await one_client(process, queries[:1])
    after_one = await process.counters()
    rest = await one_client(process, queries[1:])
    after_round = await process.counters()
    while time.perf_counter() < began + warm_up_s:
        await one_client(process, queries)
    return {
        "cold_ms": round(cold.took_s * 1000, 1),
        "cold_bytes": int(after_one["blob_bytes"] - first["blob_bytes"]),
        "cold_objects": int(after_one["blobs"] - first["blobs"]),
        "first_round_p50_ms": times("", [answer.took_s for answer in (cold, *rest)])["p50_ms"],
        "first_round_bytes_per_search": round((after_round["blob_bytes"] - first["blob_bytes"]) / len(queries)),
    }


async def _used(process: SearchProcess, before: Counters, searches: int) -> Counters:
    """What one search used on average, of everything that the process counts."""
    now = await process.counters()
    return {name: (value - before.get(name, 0)) / max(1, searches) for name, value in now.items()}


def stages(used: Counters) -> dict[str, float]:
    """The milliseconds of each part of a search, by the labels of the metric."""
    found = {name: ms for name, value in used.items() if "_seconds_" in name and (ms := round(value * 1000, 2))}
    return {name.partition("/")[2] or name: ms for name, ms in found.items()}


def times(prefix: str, seconds: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, (50, 95)) * 1000 if seconds else (float("nan"), float("nan"))
    return {f"{prefix}p50_ms": round(float(p50), 1), f"{prefix}p95_ms": round(float(p95), 1)}


def figures_of_load(load: Load, prefix: str = "clients_") -> dict[str, float]:
    return {
        **times(prefix, load.seconds),
        f"{prefix}per_s": round(load.per_s, 2),
        f"{prefix}refused": load.refused,
        f"{prefix}failed": load.failed,
    }


def _recall(asked: Asked, answers: Sequence[Answer]) -> dict[str, float]:
    """Of exact MaxSim's first TOP pages the share that was found, and how often the right page was in the first five.

    A refused search found nothing.
    """
    shares, right, exact_right = [], [], []
    for question, answer in zip(asked.questions, answers, strict=True):
        found = [asked.placed[place] for place in answer.places or ()]
        best = asked.exact.best(question, TOP)
        page = (question.manual, question.page_number)
        shares.append(len(set(best) & set(found)) / len(best))
        right.append(page in found[:_TOP_RIGHT])
        exact_right.append(page in best[:_TOP_RIGHT])
    return {
        "recall_at_10": round(float(np.mean(shares)), 4),
        "recall_at_5": round(float(np.mean(right)), 4),
        "exact_recall_at_5": round(float(np.mean(exact_right)), 4),
    }


def memory_mb(process: psutil.Process) -> float:
    """Proportional set size of the process and its children, in units of 10^6 bytes."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return round(total / _MB, 1)


async def settle(milvus: psutil.Process, most_s: float, look_s: float = 5.0, quiet_cores: float = 0.2) -> float:
    """Wait until Milvus has built its indexes: until it uses few cores, at most `most_s`. Returns the seconds."""
    began = time.perf_counter()
    while time.perf_counter() < began + most_s:
        before = cpu_s(milvus)
        await asyncio.sleep(min(look_s, most_s))
        if cpu_s(milvus) - before < quiet_cores * look_s:
            break
    return round(time.perf_counter() - began, 1)
